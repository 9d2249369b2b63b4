// Looks at the page, fills in its dialogs as STEPS say, and writes down what came of it as JSON.
//
//   STEPS     [ { type, id, set: { option: value } } ]: opens (or adds) a section, fills in, saves
//   SAMPLES   words to ask the page's own checks about, as values of each row of the tables and as addresses
'use strict';

(async () => {
	const page = required('view.nodepass'), values = required('nodepass.values'), tables = required('nodepass.tables');
	document.body.append(await page.render(await page.load()));
	const result = { table: document.querySelector('main').innerText, options: {}, steps: [] };

	for (const section of map.sections)
		result.options[section.type] = section.options.filter((option) => option.modalonly !== false).map((option) => option.option);

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
			presets: Object.fromEntries(section.fields.map((option) => [ option.option, option.placeholder ])),
			secret: [ ...document.querySelectorAll('dialog [type=password]') ].map((input) => input.closest('.field').dataset.name),
			faults: section.save()
		});
	}

	result.fits = [ ...tables.parameters, ...tables.variables ].map(([ name, , , accepted, words = [], roles = [] ]) =>
		[ name, roles[0], SAMPLES.filter((word) => values.fits(accepted, words, word)) ]);
	result.addresses = SAMPLES.filter((word) => values.address(word));
	result.config = CONFIG;
	return result;
})().catch((error) => ({ error: String(error.stack) })).then((result) => {
	const text = JSON.stringify(result).replace(/[<>&\u0080-\uffff]/g, (sign) => '\\u' + sign.charCodeAt(0).toString(16).padStart(4, '0'));
	document.body.append(Object.assign(document.createElement('pre'), { id: 'result', hidden: true, textContent: text }));
});
