// What the sections have said of late, from the system log.
'use strict';
'require poll';
'require rpc';
'require view';

const read = rpc.declare({ object: 'log', method: 'read', params: [ 'lines', 'stream', 'oneshot' ], expect: { log: [] } });

// By the numbers of syslog.
const LEVELS = [ _('emergency'), _('alert'), _('critical'), _('error'), _('warning'), _('event'), _('info'), _('debug') ];
const SHOWN = [ 7, 6, 4, 3 ];
const MAX_LINES = 2000;

const time = (milliseconds) => new Date(milliseconds).toLocaleString();

// Those of the service that are at least of a level; the latest last.
function lines(entries, level) {
	return entries.filter(({ msg, priority }) => /^nodepass[\[:]/.test(msg) && priority % 8 <= level)
		.map(({ msg, priority, time: at }) => '%s  %s  %s'.format(time(at), LEVELS[priority % 8], msg));
}

return view.extend({
	load: () => read(MAX_LINES, false, true),

	render: function(entries) {
		const log = E('textarea', { class: 'cbi-input-textarea', style: 'width:100%; font-family:monospace', rows: 30, readonly: '', wrap: 'off',
			'aria-label': _('Log') });
		const level = E('select', { class: 'cbi-input-select', change: () => show() },
			SHOWN.map((number) => E('option', { value: number }, LEVELS[number])));
		const show = () => {
			const text = lines(entries, level.value).join('\n') || _('Nothing was said.');
			if (log.value === text)
				return;
			const low = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
			log.value = text;
			// What is looked at stays where it is.
			if (low)
				log.scrollTop = log.scrollHeight;
		};
		show();
		poll.add(() => read(MAX_LINES, false, true).then((news) => {
			entries = news;
			show();
		}));
		return E('div', { class: 'cbi-map' }, [
			E('h2', {}, [ _('NodePass: log') ]),
			E('p', {}, [ E('label', {}, [ _('At least'), ' ', level ]) ]),
			log
		]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
