// The processes of the sections: what they do, and how they are told to do something else.
'use strict';
'require baseclass';
'require fs';
'require rpc';

const list = rpc.declare({ object: 'service', method: 'list', params: [ 'name' ], expect: { nodepass: {} } });

return baseclass.extend({
	// What procd knows, by the names of the sections.
	instances: () => list('nodepass').then(({ instances }) => instances || {}),

	// What a section does, in words.
	state: function(instance, enabled) {
		if (instance?.running)
			return _('running');
		if (instance)
			return instance.exit_code == null ? _('ended') : _('ended with status %d').format(instance.exit_code);
		return enabled ? _('stopped') : _('disabled');
	},

	// What can be asked of it now. A start is a restart: what was given up has its failures counted anew.
	can: {
		start: (instance, enabled) => enabled && !instance?.running,
		restart: (instance) => !!instance?.running,
		stop: (instance) => !!instance
	},

	ask: (action, id) => fs.exec('/etc/init.d/nodepass', [ action === 'start' ? 'restart' : action, id ]).then((said) => {
		if (said.code)
			throw new Error((said.stderr || '').trim() || _('exit status %d').format(said.code));
	})
});
