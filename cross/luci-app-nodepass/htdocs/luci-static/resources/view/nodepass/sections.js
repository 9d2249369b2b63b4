// One form for each kind of section of /etc/config/nodepass; parameters and variables come from the program's own tables.
'use strict';
'require form';
'require poll';
'require tools.widgets as widgets';
'require uci';
'require ui';
'require view';
'require nodepass.service as service';
'require nodepass.tables as tables';
'require nodepass.values as values';
'require nodepass.words as words';

// What procd is told: name, meaning, default, and what is accepted.
const NUMBER = 'a number from 0 to 1000000000';
const SERVICE = [
	[ 'nofile', _('files and sockets open at once; a user takes two or three'), '65536', NUMBER ],
	[ 'respawn_threshold', _('seconds; a process that has run for less counts as failed'), '60', NUMBER ],
	[ 'respawn_timeout', _('seconds before a process that has ended is started again'), '5', NUMBER ],
	[ 'respawn_retry', _('failures in a row before it is given up; 0 never'), '10', NUMBER ],
	[ 'term_timeout', _('seconds between asking to stop and killing; more than NP_SHUTDOWN_TIMEOUT'), '10', NUMBER ],
	[ 'program', _('another binary'), '/usr/bin/nodepass', 'a path' ]
];

// What is otherwise on a router, as /etc/init.d/nodepass has it: a folder that survives reboots, the system's log, no figures in it.
const HERE = {
	NP_STATE_DIR: '/etc/nodepass',
	NP_LOG_FORMAT: 'syslog',
	NP_CHECK_POINT: '0'
};

const ROLES = { server: _('Server'), client: _('Client'), master: _('Master') };
const ACTIONS = [ [ 'start', _('Start'), 'positive' ], [ 'restart', _('Restart'), 'action' ], [ 'stop', _('Stop'), 'negative' ] ];

function address(id, value) {
	return !value || values.address(value) || _('Expecting host:port');
}

// ---- what runs

let instances = {};

const enabled = (id) => ![ '0', 'no', 'off', 'false', 'disabled' ].includes(uci.get('nodepass', id, 'enabled'));
const stateOf = (id) => service.state(instances[id], enabled(id));
const isFixed = (action, id) => !L.hasViewPermission() || !service.can[action](instances[id], enabled(id));

function refresh() {
	return service.instances().then((news) => {
		instances = news;
		for (const node of document.querySelectorAll('[data-state-of]'))
			node.textContent = stateOf(node.dataset.stateOf);
		for (const button of document.querySelectorAll('[data-action]'))
			button.disabled = isFixed(button.dataset.action, button.dataset.section);
	});
}

function act(action, id) {
	for (const button of document.querySelectorAll('[data-section="%s"]'.format(id)))
		button.disabled = true;
	return service.ask(action, id).catch((error) => {
		ui.addNotification(null, E('p', {}, [ '%s: %s'.format(id, error.message) ]), 'danger');
	}).then(refresh);
}

function buttons(id) {
	return ACTIONS.map(([ action, title, kind ]) => E('button', {
		class: 'btn cbi-button cbi-button-' + kind,
		type: 'button',
		disabled: isFixed(action, id) ? '' : null,
		'data-action': action,
		'data-section': id,
		click: () => act(action, id)
	}, [ title ]));
}

// ---- fields

// A column that shows what a section's URL says, where it has one.
function tells(option, said) {
	const plain = option.textvalue;
	option.textvalue = function(id) {
		const parts = values.parts(uci.get('nodepass', id, 'url'));
		return parts ? '%h'.format(said(parts)) : plain.call(this, id);
	};
}

// The URL in words: a line for each thing it says.
function toldByUrl(id) {
	const parts = values.parts(uci.get('nodepass', id, 'url'));
	if (!parts)
		return '';
	const told = [ [ _('Role'), ROLES[parts.role] ], [ _('Address'), parts.tunnel ], [ _('Targets'), parts.targets.join(', ') ] ];
	for (const [ name, value ] of parts.parameters) {
		const [ , meaning ] = tables.parameters.find((row) => row[0] === name) || [ name, _('unknown') ];
		told.push([ name, words.meanings[name]?.[value] || '%s (%s)'.format(value, meaning) ]);
	}
	return told.filter((pair) => pair[1] !== '').map((pair) => pair.join(': ')).join('\n');
}

function common(section, kind) {
	let o = section.taboption('common', form.Flag, 'enabled', _('Enabled'));
	o.default = '1';
	o.editable = true;

	if (kind === 'instance') {
		o = section.taboption('common', form.ListValue, 'role', _('Role'));
		o.value('client', ROLES.client);
		o.value('server', ROLES.server);
		o.depends('url', '');
		o.textvalue = (id) => ROLES[uci.get('nodepass', id, 'role')] || null;
		tells(o, (parts) => ROLES[parts.role]);

		o = section.taboption('common', form.Value, 'password', _('Key'), _('The secret that both ends of a tunnel know.'));
		o.password = true;
		o.modalonly = true;
		o.depends('url', '');
	}

	o = section.taboption('common', form.Value, 'tunnel', _('Address'),
		_('host:port of the server or of the API; :port for all interfaces.'));
	o.placeholder = ':10101';
	o.rmempty = false;
	o.validate = address;
	o.depends('url', '');
	tells(o, (parts) => parts.tunnel);

	if (kind === 'instance') {
		o = section.taboption('common', form.DynamicList, 'target', _('Targets'), _('host:port, one or several.'));
		o.rmempty = false;
		o.validate = address;
		tells(o, (parts) => parts.targets.join(' '));
	}
	else {
		o = section.taboption('common', form.Value, 'prefix', _('Path of the API'));
		o.placeholder = '/api';
		o.modalonly = true;
	}
	o.depends('url', '');

	o = section.taboption('common', form.Value, 'url', _('URL'), _('The whole of it, in place of the above and of the parameters.'));
	o.password = true;
	o.modalonly = true;
	o.validate = (id, value) => !value || [ 'server://', 'client://', 'master://' ].some((role) =>
		value.startsWith(role) && value.length > role.length) || _('Expecting server://, client:// or master:// first');

	o = section.taboption('common', form.DummyValue, '_told', _('The URL says'));
	o.modalonly = true;
	o.depends('url', /./);
	o.cfgvalue = toldByUrl;
	o.renderWidget = (id, index, text) => E('output', { style: 'white-space: pre-wrap' }, [ text ]);
}

// A row of a table as a field that may stay empty: a list of words where there are no others.
function field(section, tab, [ name, meaning, preset, accepted, choices = [] ], cls) {
	const known = words.meanings[name] || {}, closed = values.closed(accepted, choices);
	const takes = closed ? '' : ' %s: %s.'.format(_('Takes'), tables.takes[accepted] || _(accepted));
	const o = section.taboption(tab, cls || (closed ? form.ListValue : form.Value), name, name, '%h'.format(meaning + '.' + takes));
	const standing = name in HERE ? HERE[name] : preset || '';
	if (closed)
		o.value('', standing === '' ? _('default') : _('default: %s').format(known[standing] || standing));
	for (const word of choices.length ? choices : Object.keys(known))
		o.value(word, (known[word] || word) === word ? word : '%s (%s)'.format(known[word], word));
	o.placeholder = standing;
	o.optional = true;
	o.modalonly = true;
	o.validate = (id, value) => !value || values.fits(accepted, choices, value) || _('Expecting %s').format(tables.takes[accepted] || _(accepted));
	return o;
}

function parameters(section, kind) {
	for (const row of tables.parameters) {
		const roles = row[5].filter((role) => (role === 'master') === (kind === 'master'));
		if (!roles.length)
			continue;
		// The role is not to be seen while there is a URL, so this is for both.
		const only = kind === 'instance' && roles.length === 1;
		const o = field(section, 'parameters', row, row[0] === 'bind' ? widgets.DeviceSelect : null);
		o.depends(only ? 'role' : 'url', only ? roles[0] : '');
		o.noaliases = true;
	}
}

function environment(section) {
	tables.variables.forEach((row) => field(section, 'environment', row));
	const o = section.taboption('environment', form.DynamicList, 'env', _('Others'), _('NAME=value'));
	o.modalonly = true;
	o.validate = (id, value) => !value || value.indexOf('=') > 0 || _('Expecting NAME=value');
}

function process(section) {
	let o = section.taboption('service', widgets.NetworkSelect, 'interface', 'interface',
		_('A client calls its server by the first of these networks that is up. What has given up is started again when one comes up. Without it: as the routes say, and wan, wan6.'));
	o.multiple = true;
	o.optional = true;
	o.modalonly = true;

	o = section.taboption('service', widgets.UserSelect, 'user', 'user', _('Run as this user; ports below 1024 are open to root only.'));
	o.placeholder = 'root';
	o.optional = true;
	o.modalonly = true;

	SERVICE.forEach((row) => field(section, 'service', row));

	o = section.taboption('service', form.Flag, 'jail', 'jail', _('Show the process only what it needs of the file system (package procd-ujail).'));
	o.modalonly = true;

	o = section.taboption('service', form.Flag, 'firewall', 'firewall',
		_('Open the firewall from the zone wan while the service runs: for the ports at which this end listens.'));
	o.modalonly = true;
}

return view.extend({
	load: () => Promise.all([ service.instances(), uci.load('nodepass') ]),

	render: function([ running ]) {
		instances = running;
		const map = new form.Map('nodepass', 'NodePass', _('Carries TCP and UDP between two networks, from port to port.'));

		for (const [ kind, title ] of [ [ 'instance', _('Servers and clients') ], [ 'master', _('Masters') ] ]) {
			const section = map.section(form.GridSection, kind, title);
			section.addremove = true;
			section.nodescriptions = true;
			section.tab('common', _('General'));
			section.tab('parameters', _('Parameters'));
			section.tab('environment', _('Environment'));
			section.tab('service', _('Service'));

			const state = section.option(form.DummyValue, '_state', _('State'));
			state.modalonly = false;
			state.textvalue = (id) => E('span', { 'data-state-of': id }, [ stateOf(id) ]);

			section.renderRowActions = function(id) {
				const cell = this.super('renderRowActions', [ id, _('Edit') ]);
				cell.lastElementChild.prepend(...buttons(id));
				return cell;
			};

			common(section, kind);
			parameters(section, kind);
			environment(section);
			process(section);
		}
		poll.add(refresh);
		return map.render();
	}
});
