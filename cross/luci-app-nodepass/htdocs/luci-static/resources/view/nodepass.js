// One form for each kind of section of /etc/config/nodepass; the options come from the program's own tables.
'use strict';
'require form';
'require rpc';
'require view';
'require nodepass.tables as tables';

const services = rpc.declare({ object: 'service', method: 'list', params: [ 'name' ], expect: { nodepass: {} } });

// Options of the common tab: name, title, what it is, and then what is peculiar to it.
function common(section, kind) {
	let o = section.taboption('common', form.Flag, 'enabled', _('Enabled'));
	o.default = '1';
	o.editable = true;

	if (kind === 'instance') {
		o = section.taboption('common', form.ListValue, 'role', _('Role'));
		o.value('client', _('Client'));
		o.value('server', _('Server'));
		o.default = 'client';

		o = section.taboption('common', form.Value, 'password', _('Key'), _('The secret that both ends of a tunnel know.'));
		o.password = true;
		o.modalonly = true;
	}

	o = section.taboption('common', form.Value, 'tunnel', _('Address'),
		_('host:port of the server or of the API; :port for all interfaces.'));
	o.placeholder = ':10101';
	o.validate = (id, value) => !value || /^[A-Za-z0-9._:\[\]-]*:[1-9][0-9]{0,4}$/.test(value) || _('Expecting host:port');

	if (kind === 'instance') {
		o = section.taboption('common', form.DynamicList, 'target', _('Targets'), _('host:port, one or several.'));
	}
	else {
		o = section.taboption('common', form.Value, 'prefix', _('Path of the API'));
		o.placeholder = '/api';
		o.modalonly = true;
	}

	o = section.taboption('common', form.Value, 'url', _('URL'),
		_('The whole of it, instead of all the above and the parameters.'));
	o.password = true;
	o.modalonly = true;
}

function parameters(section, kind) {
	for (const [ name, meaning, preset, accepted, words, roles ] of tables.parameters) {
		const mine = roles.filter((role) => (role === 'master') === (kind === 'master'));
		if (!mine.length)
			continue;

		const o = section.taboption('parameters', form.Value, name, name, '%h. %h: %h.'.format(meaning, _('Takes'), accepted));
		words.forEach((word) => o.value(word));
		o.placeholder = preset || '';
		o.optional = true;
		o.modalonly = true;
		if (kind === 'instance' && mine.length === 1)
			o.depends('role', mine[0]);
	}
}

function variables(section) {
	for (const [ name, meaning, preset, accepted ] of tables.variables) {
		const o = section.taboption('environment', form.Value, name, name, '%h. %h: %h.'.format(meaning, _('Takes'), accepted));
		o.placeholder = preset || '';
		o.optional = true;
		o.modalonly = true;
	}
	const o = section.taboption('environment', form.DynamicList, 'env', _('Others'), _('NAME=value'));
	o.modalonly = true;
}

return view.extend({
	load: () => services('nodepass'),

	render: function(service) {
		const running = service.instances || {};
		const map = new form.Map('nodepass', 'NodePass', _('Carries TCP and UDP between two networks, from port to port.'));

		for (const [ kind, title ] of [ [ 'instance', _('Servers and clients') ], [ 'master', _('Masters') ] ]) {
			const section = map.section(form.GridSection, kind, title);
			section.addremove = true;
			section.tab('common', _('General'));
			section.tab('parameters', _('Parameters'));
			section.tab('environment', _('Environment'));

			const state = section.option(form.DummyValue, '_state', _('State'));
			state.modalonly = false;
			state.textvalue = (id) => running[id]?.running ? _('running') : _('stopped');

			common(section, kind);
			parameters(section, kind);
			variables(section);
		}
		return map.render();
	}
});
