// What the program accepts, so that a mistake is told before it is saved.
'use strict';
'require baseclass';

const NUMBER = /^a number from ([0-9]+) to ([0-9]+)$/;
const DURATION = /^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$/;
const AMOUNT = /([0-9.]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g;
const MILLISECONDS = { ns: 1e-6, us: 1e-3, '\u00b5s': 1e-3, '\u03bcs': 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6 };
const PART = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
const BYTE = /^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$/;
const ADDRESS = /^(?:\[([^\]]*:[^\]]*)\]|([^\[\]:]*)):([1-9][0-9]{0,4})$/;
const BRACKETED = /^\[([^\]]*:[^\]]*)\](?::([1-9][0-9]{0,4}))?$/;
const PLAIN = /^([0-9.]+)(?::([1-9][0-9]{0,4}))?$/;
const LINK = /^fe[89ab]/i;
const MAX_SERVERS = 8;
const DIGITS = /^[0-9]*$/;
const ORIGIN = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/[A-Za-z0-9._:[\]-]+$/;
const MAX_ORIGINS = 64;
const NETWORK = /^([^\/]+)(?:\/([0-9]+))?$/;
const MAX_NETWORKS = 256;
const URL_PARTS = /^(server|client|master):\/\/([^\/?#]+)(?:\/([^?#]*))?(?:\?([^#]*))?/;
const DEVICE = /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,14}$/;

function number(text, least, most) {
	return text !== '' && DIGITS.test(text) && +text >= least && +text <= most;
}

function duration(text, zero) {
	if (!DURATION.test(text))
		return false;
	let sum = 0;
	for (const found of text.matchAll(AMOUNT))
		sum += found[1] * MILLISECONDS[found[2]];
	return (sum >= 1 && sum <= 8760 * MILLISECONDS.h) || (zero && sum === 0);
}

function ip(text) {
	const bytes = text.split('.');
	if (!text.includes(':'))
		return bytes.length === 4 && bytes.every((byte) => BYTE.test(byte));
	try {
		return !!new URL('http://[' + text + ']');
	}
	catch (e) {
		return false;
	}
}

function unbracketed(text) {
	return text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
}

function host(text) {
	const bare = text.endsWith('.') ? text.slice(0, -1) : text, parts = bare.split('.');
	return bare.length <= 253 && !DIGITS.test(parts[parts.length - 1]) && parts.every((part) => PART.test(part));
}

function address(text) {
	const [ all, inner, name, port ] = text.match(ADDRESS) || [];
	return !!all && port <= 65535 && (inner ? ip(inner) : name === '' || ip(name) || host(name));
}

function origins(text) {
	const list = text.split(',');
	return text === '*' || text === 'none' || (list.length <= MAX_ORIGINS && list.every((origin) => ORIGIN.test(origin.trim())));
}

// One address or range, perhaps of peers.
function network(text) {
	const [ all, bare, bits ] = text.replace(/^tunnel:/, '').match(NETWORK) || [];
	const inner = all && unbracketed(bare);
	return !!all && ip(inner) && (bits === undefined || +bits <= (inner.includes(':') ? 128 : 32));
}

function networks(text) {
	const list = text.split(',');
	return list.length <= MAX_NETWORKS && list.every((entry) => network(entry.trim()));
}

// A DNS server, with or without a port.
function server(text) {
	const [ , inner, port ] = text.match(BRACKETED) || text.match(PLAIN) || [ text, text ], [ bare, zone ] = inner.split('%');
	return ip(bare) && (zone === undefined || (zone !== '' && LINK.test(bare))) && (port === undefined || port <= 65535);
}

function servers(text) {
	const list = text.split(',').map((part) => part.trim()), periods = list.filter((part) => duration(part, true));
	return periods.length <= 1 && list.length - periods.length <= MAX_SERVERS && list.every((part) => duration(part, true) || server(part));
}

function decoded(text) {
	try {
		return decodeURIComponent(text);
	}
	catch (e) {
		return text;
	}
}

return baseclass.extend({
	// Is `value` one that the tables describe as `accepted`, with these words to choose from?
	fits: function(accepted, words, value) {
		const range = accepted.match(NUMBER);
		if (range)
			return number(value, +range[1], +range[2]);
		if (accepted.includes('addresses of DNS servers'))
			return servers(value);
		if (accepted.startsWith('a duration'))
			return duration(value, accepted.endsWith('or 0')) || (accepted.includes('number of seconds') && number(value, 0, 31536000));
		if (accepted.startsWith('digits from 0 to 3'))
			return [ ...value ].every((digit) => digit >= '0' && digit <= '3');
		if (accepted === 'a host name')
			return host(value);
		if (accepted === 'auto or an IP address')
			return value === 'auto' || ip(unbracketed(value));
		if (accepted.includes('the name of a network device'))
			return value === 'auto' || ip(unbracketed(value)) || (!/^[0-9.]+$/.test(value) && DEVICE.test(value));
		if (accepted.startsWith('addresses and ranges'))
			return networks(value);
		if (accepted.startsWith('a host and port'))
			return address(value);
		if (accepted.startsWith('origins'))
			return origins(value);
		return !words.length || words.includes(value);
	},

	// host:port, or :port for all interfaces.
	address,

	// Are these words all that is accepted?
	closed: (accepted, words) => words.length > 0 && accepted.split(/, | or /).length === words.length,

	// What a URL says, without its key; null if it says nothing.
	parts: function(url) {
		const [ , role, authority, path, query ] = (url || '').match(URL_PARTS) || [];
		if (!role)
			return null;
		return {
			role,
			tunnel: authority.slice(authority.lastIndexOf('@') + 1),
			targets: role === 'master' ? [] : decoded(path || '').split(',').filter((target) => target !== ''),
			parameters: (query || '').split('&').filter((pair) => pair !== '').map((pair) => {
				const at = pair.indexOf('=');
				return at < 0 ? [ decoded(pair), '' ] : [ decoded(pair.slice(0, at)), decoded(pair.slice(at + 1)) ];
			})
		};
	}
});
