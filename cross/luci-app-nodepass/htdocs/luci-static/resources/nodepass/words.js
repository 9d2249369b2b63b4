// What the words and digits of parameters and variables mean, for lists to choose from.
'use strict';
'require baseclass';

const SWITCH = { 0: _('no'), 1: _('yes') };

return baseclass.extend({
	// By the name of the parameter, the word and what it says.
	meanings: {
		log: {
			none: _('nothing'),
			debug: _('everything, single connections too'),
			info: _('what happens, in quiet times'),
			warn: _('what is not as it should be'),
			error: _('what cannot be done'),
			event: _('figures only')
		},
		tls: {
			0: _('none: plain text'),
			1: _('TLS, with a certificate made by itself'),
			2: _('TLS, with certificate files')
		},
		lbs: {
			0: _('one after the other'),
			1: _('the fastest'),
			2: _('the first; the others when it fails')
		},
		auth: {
			0: _('that of NodePass 1.14'),
			1: _('authenticated; that of 1.14 with programs that know no other'),
			2: _('authenticated only')
		},
		mode: {
			0: _('decided by trying to listen'),
			1: _('server: users come in here; client: it forwards by itself, without a server'),
			2: _('server: users come in at the client; client: a tunnel to a server')
		},
		type: {
			0: _('TCP'),
			1: _('QUIC'),
			2: _('WebSocket'),
			3: _('HTTP/2')
		},
		block: {
			0: _('none'),
			1: _('SOCKS'),
			2: _('HTTP'),
			3: _('TLS'),
			123: _('all of these')
		},
		dial: {
			auto: _('as the routes say')
		},
		bind: {
			auto: _('as the routes say')
		},
		wire: {
			auto: _('all from 1.13 on'),
			'1.5': '1.5',
			'1.6': '1.6',
			'1.7': '1.7',
			'1.8': '1.8',
			'1.10': '1.10',
			'1.12': '1.12',
			'1.13': '1.13',
			'1.14': '1.14',
			'2.0b8': '2.0b8',
			'2.0': '2.0'
		},
		quic: SWITCH,
		proxy: SWITCH,
		notcp: SWITCH,
		noudp: SWITCH,
		NP_LOG_FORMAT: {
			text: _('lines with time and level'),
			json: _('JSON objects'),
			syslog: _('to the system log, each line with its level')
		},
		NP_CHECK_POINT: SWITCH,
		NP_SHOW_KEY: SWITCH
	}
});
