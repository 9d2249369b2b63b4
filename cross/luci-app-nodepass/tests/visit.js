// Looks at the page, fills in its dialogs as STEPS say, and writes down what came of it as JSON.
//
//   STEPS     [ { type, id, set: { option: value } } ]: opens (or adds) a section, fills in, saves
//   CLICKS    [ [ action, section ] ]: buttons that are pressed first
//   EVENTS    what becomes of sections without us then, as procd tells it
//   LOG       what the system log has
//   SAMPLES   words to ask the page's own checks about, as values of each row of the tables and as addresses
'use strict';

(async () => {
	// The service as procd and the init script have it: what is asked of a section is what it does from then on.
	const running = REPLIES.service.list.nodepass.instances;
	REPLIES.exec = (program, [ action, id ]) => {
		if (id === 'raw')
			return { code: 1, stderr: 'no <b>such</b> thing\n' };
		if (action === 'stop')
			delete running[id];
		else
			running[id] = { running: true };
		return { code: 0 };
	};
	const page = required('view.nodepass.sections'), values = required('nodepass.values'), tables = required('nodepass.tables');
	document.body.append(await page.render(await page.load()));
	const result = { table: document.querySelector('main').innerText, options: {}, steps: [], states: [] };
	const states = () => Object.fromEntries([ ...document.querySelectorAll('[data-state-of]') ].map((node) => [ node.dataset.stateOf,
		[ node.textContent, ...[ ...document.querySelectorAll('[data-section="' + node.dataset.stateOf + '"]') ]
			.filter((button) => !button.disabled).map((button) => button.dataset.action) ].join(' ') ]));
	result.states.push(states());
	for (const [ action, id ] of CLICKS) {
		document.querySelector('[data-action="' + action + '"][data-section="' + id + '"]').click();
		// All that follows is promises.
		await new Promise((done) => setTimeout(done));
		result.states.push(states());
	}
	// And what changes without us.
	for (const id in EVENTS)
		running[id] = EVENTS[id];
	await Promise.all(POLLED.map((call) => call()));
	result.states.push(states());
	Object.assign(result, { asked: ASKED, notices: [ ...document.querySelectorAll('.notice') ].map((node) => node.innerText) });

	for (const section of map.sections)
		result.options[section.type] = section.options.filter((option) => option.modalonly !== false && option.option !== '_told').map((option) => option.option);

	for (const { type, id, set } of STEPS) {
		const section = map.sections.find((each) => each.type === type);
		CONFIG[id] ||= { '.type': type };
		document.querySelector('dialog')?.remove();
		document.body.append(section.open(id));
		for (const [ name, value ] of Object.entries(set)) {
			section.fields.find((option) => option.option === name).set(value);
			section.checkDepends();
		}
		result.steps.push({
			shown: section.fields.filter((option) => option.active()).map((option) => option.option),
			told: section.fields.find((option) => option.option === '_told').node.innerText,
			words: Object.fromEntries(section.fields.filter((option) => option.node.querySelector('select')).map((option) =>
				[ option.option, [ ...option.node.querySelectorAll('option') ].map((choice) => choice.textContent) ])),
			presets: Object.fromEntries(section.fields.map((option) => [ option.option, option.placeholder ])),
			secret: [ ...document.querySelectorAll('dialog [type=password]') ].map((input) => input.closest('.field').dataset.name),
			faults: section.save()
		});
	}

	result.fits = [ ...tables.parameters, ...tables.variables ].map(([ name, , , accepted, words = [], roles = [] ]) =>
		[ name, roles[0], SAMPLES.filter((word) => values.fits(accepted, words, word)) ]);
	// Each choice of a list in words.
	result.unworded = [ ...tables.parameters, ...tables.variables ].flatMap(([ name, , , , words = [] ]) =>
		words.filter((word) => !required('nodepass.words').meanings[name]?.[word]).map((word) => name + '=' + word));
	result.untaken = [ ...tables.parameters, ...tables.variables ].filter((row) => !tables.takes[row[3]]).map((row) => row[0]);

	// The log.
	REPLIES.log = { read: { log: LOG } };
	const log = required('view.nodepass.log');
	document.body.append(log.render(await log.load()));
	const said = document.querySelector('textarea'), level = document.querySelector('textarea').parentNode.querySelector('select');
	result.log = [ said.value ];
	level.value = '4';
	level.dispatchEvent(new Event('change'));
	result.log.push(said.value);
	LOG.push({ msg: 'nodepass[7]: late', priority: 27, time: 0 });
	await POLLED.at(-1)();
	result.log.push(said.value);
	result.addresses = SAMPLES.filter((word) => values.address(word));
	result.config = CONFIG;
	return result;
})().catch((error) => ({ error: String(error.stack) })).then((result) => {
	const text = JSON.stringify(result).replace(/[<>&\u0080-\uffff]/g, (sign) => '\\u' + sign.charCodeAt(0).toString(16).padStart(4, '0'));
	document.body.append(Object.assign(document.createElement('pre'), { id: 'result', hidden: true, textContent: text }));
});
