// One form for each kind of section of /etc/config/nodepass; parameters and variables come from the program's own tables.
'use strict';
'require form';
'require rpc';
'require view';
'require nodepass.tables as tables';
'require nodepass.values as values';

const running = rpc.declare({ object: 'service', method: 'list', params: [ 'name' ], expect: { nodepass: {} } });

// What procd is told: name, meaning, default, and what is accepted.
const NUMBER = 'a number from 0 to 1000000000';
const SERVICE = [
	[ 'nofile', _('files and sockets open at once; a user takes two or three'), '65536', NUMBER ],
	[ 'respawn_threshold', _('seconds; a process that has run for less counts as failed'), '60', NUMBER ],
	[ 'respawn_timeout', _('seconds before a process that has ended is started again'), '5', NUMBER ],
	[ 'respawn_retry', _('failures in a row before it is given up; 0 never'), '10', NUMBER ],
	[ 'term_timeout', _('seconds between asking to stop and killing; more than NP_SHUTDOWN_TIMEOUT'), '10', NUMBER ],
	[ 'user', _('run as this user; ports below 1024 are open to root only'), 'root', 'a name' ],
	[ 'program', _('another binary'), '/usr/bin/nodepass', 'a path' ]
];

// What is otherwise on a router: /etc/init.d/nodepass gives a master a folder that survives reboots.
const HERE = {
	NP_STATE_DIR: [ 'NP_STATE_DIR', _('folder where a master keeps its instances'), '/etc/nodepass', 'a path' ]
};

function address(id, value) {
	return !value || values.address(value) || _('Expecting host:port');
}

function common(section, kind) {
	let o = section.taboption('common', form.Flag, 'enabled', _('Enabled'));
	o.default = '1';
	o.editable = true;

	if (kind === 'instance') {
		o = section.taboption('common', form.ListValue, 'role', _('Role'));
		o.value('client', _('Client'));
		o.value('server', _('Server'));
		o.depends('url', '');

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

	if (kind === 'instance') {
		o = section.taboption('common', form.DynamicList, 'target', _('Targets'), _('host:port, one or several.'));
		o.rmempty = false;
		o.validate = address;
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
}

// A row of a table as a field that may stay empty.
function field(section, tab, [ name, meaning, preset, accepted, words = [] ]) {
	const o = section.taboption(tab, form.Value, name, name, '%h. %h: %h.'.format(meaning, _('Takes'), accepted));
	words.forEach((word) => o.value(word));
	o.placeholder = preset || '';
	o.optional = true;
	o.modalonly = true;
	o.validate = (id, value) => !value || values.fits(accepted, words, value) || _('Expecting %s').format(accepted);
	return o;
}

function parameters(section, kind) {
	for (const row of tables.parameters) {
		const roles = row[5].filter((role) => (role === 'master') === (kind === 'master'));
		if (!roles.length)
			continue;
		// The role is not to be seen while there is a URL, so this is for both.
		const only = kind === 'instance' && roles.length === 1;
		field(section, 'parameters', row).depends(only ? 'role' : 'url', only ? roles[0] : '');
	}
}

function environment(section) {
	tables.variables.forEach((row) => field(section, 'environment', HERE[row[0]] || row));
	const o = section.taboption('environment', form.DynamicList, 'env', _('Others'), _('NAME=value'));
	o.modalonly = true;
	o.validate = (id, value) => !value || value.indexOf('=') > 0 || _('Expecting NAME=value');
}

function service(section) {
	SERVICE.forEach((row) => field(section, 'service', row));

	let o = section.taboption('service', form.Flag, 'jail', 'jail', _('Show the process only what it needs of the file system (package procd-ujail).'));
	o.modalonly = true;

	o = section.taboption('service', form.Flag, 'firewall', 'firewall',
		_('Open the firewall from the zone wan while the service runs: for the ports at which this end listens.'));
	o.modalonly = true;

	o = section.taboption('service', form.DynamicList, 'interface', 'interface',
		_('What has given up is started again when one of these comes up. Without it: wan, wan6.'));
	o.modalonly = true;
}

return view.extend({
	load: () => running('nodepass'),

	render: function(list) {
		const instances = list.instances || {};
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
			state.textvalue = (id) => instances[id]?.running ? _('running') : _('stopped');

			common(section, kind);
			parameters(section, kind);
			environment(section);
			service(section);
		}
		return map.render();
	}
});
