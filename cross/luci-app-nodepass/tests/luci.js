// As much of LuCI as the page asks for, to see it in a browser without a router. What is asked comes in by these globals:
//
//   SOURCES   the modules, by their names
//   REPLIES   what ubus answers: object, method, reply
//   CONFIG    the sections of /etc/config/nodepass: name, { '.type', options }; what is saved is found there afterwards
//   WORDS     translations, by the texts in the modules
//
// and what is done goes out by these: ASKED, the programs that were started; POLLED, what is to be called again and again.
//
// The rules are LuCI's: a field that is hidden or empty is taken out of the configuration, one that must not be empty or that is
// not valid keeps everything from being saved, and an option that is `modalonly` is not in the table (or only there, if false).
'use strict';

const ASKED = [], POLLED = [];

const _ = (text) => WORDS[text] ?? text;

const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => '&#' + sign.charCodeAt(0) + ';');

String.prototype.format = function(...words) {
	return this.replace(/%([hsd])/g, (all, kind) => kind === 'h' ? escaped(words.shift()) : String(words.shift()));
};

function E(tag, attributes = {}, ...children) {
	const node = document.createElement(tag);
	for (const [ name, value ] of Object.entries(attributes))
		if (typeof value === 'function')
			node.addEventListener(name, value);
		else if (value != null)
			node.setAttribute(name, value);
	node.append(...children.flat().filter((child) => child != null));
	return node;
}

const html = (text) => Object.assign(document.createElement('div'), { className: 'description', innerHTML: text });

// ---- fields

class Option {
	constructor(section, name, title, description = '') {
		Object.assign(this, { section, option: name, title, description, deps: [], choices: [], rmempty: true, optional: false });
	}

	value(word, title = word) { this.choices.push([ word, title ]); }
	depends(name, value) { this.deps.push(typeof name === 'string' ? { [name]: value } : name); }
	validate() { return true; }
	cfgvalue(id) { return CONFIG[id][this.option]; }
	inputs() { return [ ...this.node.querySelectorAll('input, select') ]; }
	active() { return !this.node.hidden; }

	textvalue(id) {
		const value = this.cfgvalue(id) ?? this.default;
		return value == null ? null : escaped([ value ].flat().map((word) =>
			(this.choices.find((choice) => choice[0] === word) || [ 0, word ])[1]).join(' '));
	}

	render(id) {
		const value = this.cfgvalue(id) ?? this.default ?? '';
		this.node = E('div', { class: 'field', 'data-name': this.option }, E('label', {}, this.title),
			this.renderWidget ? this.renderWidget(id, 0, value) : this.widget(value), html(this.description));
		this.node.addEventListener('input', () => this.section.checkDepends());
		return this.node;
	}

	// What is wrong with what is in the field, or null.
	fault(id) {
		for (const value of [ this.formvalue() ].flat()) {
			const said = this.validate(id, value);
			if (said !== true)
				return String(said);
		}
		return this.missing() && !this.rmempty && !this.optional ? 'must not be empty' : null;
	}

	missing() { return this.formvalue() == ''; }

	parse(id) {
		if (!this.active() || this.missing())
			delete CONFIG[id][this.option];
		else
			CONFIG[id][this.option] = this.formvalue();
	}
}

class Value extends Option {
	widget(value) {
		const list = this.choices.length ? 'words-of-' + this.option : null;
		return E('span', {}, E('input', { value, list, type: this.password ? 'password' : 'text', placeholder: this.placeholder }),
			list && E('datalist', { id: list }, ...this.choices.map(([ word ]) => E('option', { value: word }))));
	}
	formvalue() { return this.inputs()[0].value.trim(); }
	set(value) { this.inputs()[0].value = value; }
}

// What is not among the words cannot be chosen.
class ListValue extends Value {
	widget(value) {
		const options = this.choices.map(([ word, title ]) => E('option', { value: word, selected: word === value ? '' : null }, title));
		return E('select', {}, ...options);
	}
}

class Flag extends Option {
	default = '0';
	widget(value) { return E('input', { type: 'checkbox', checked: value === '1' ? '' : null }); }
	formvalue() { return this.inputs()[0].checked ? '1' : '0'; }
	set(value) { this.inputs()[0].checked = value === '1'; }
	missing() { return this.formvalue() === this.default; }
}

class DynamicList extends Option {
	widget(value) { return E('span', {}, ...[ value, '' ].flat().map((item) => E('input', { value: item }))); }
	formvalue() { return this.inputs().map((input) => input.value.trim()).filter((item) => item !== ''); }
	set(items) { this.node.querySelector('span').replaceWith(this.widget(items)); }
}

// It has no value of its own.
class DummyValue extends Option {
	widget(value) { return E('span', {}, value); }
	formvalue() { return ''; }
	parse() {}
}

// Pickers: of what netifd and /etc/passwd say; networks and devices that are not there yet can be written.
class NetworkSelect extends DynamicList { }
class DeviceSelect extends Value { }
class UserSelect extends ListValue {
	widget(value) {
		this.choices = [ '', ...REPLIES.users ].map((name) => [ name, name ]);
		return super.widget(value);
	}
}

// ---- sections

class TableSection {
	renderRowActions(id, edit) {
		return E('td', {}, E('div', {}, E('button', {}, edit)));
	}
	super(name, args) { return TableSection.prototype[name].apply(this, args); }
}

class GridSection extends TableSection {
	constructor(type, title) { super(); Object.assign(this, { type, title, tabs: [], options: [] }); }

	tab(name, title) { this.tabs.push([ name, title ]); }

	option(cls, ...rest) {
		const option = new cls(this, ...rest);
		this.options.push(option);
		return option;
	}

	taboption(tab, ...rest) {
		if (!this.tabs.some((known) => known[0] === tab))
			throw new Error('no tab ' + tab);
		return Object.assign(this.option(...rest), { tab });
	}

	render() {
		const columns = this.options.filter((option) => !option.modalonly);
		const row = (id) => E('tr', {}, E('td', {}, id), ...columns.map((option) => {
			const text = option.textvalue(id), cell = E('td');
			if (option.editable)
				cell.append(option.render(id).querySelector('input'));
			else if (text instanceof Node)
				cell.append(text);
			else
				cell.innerHTML = text ?? '<em>none</em>';
			return cell;
		}), this.renderRowActions(id));
		const ids = Object.keys(CONFIG).filter((id) => CONFIG[id]['.type'] === this.type);
		return E('section', {}, E('h3', {}, this.title), E('table', {},
			E('tr', {}, E('th', {}, 'Name'), ...columns.map((option) => E('th', {}, option.title))), ...ids.map(row)));
	}

	// The dialog for one section: all tabs, one below the other.
	open(id) {
		this.id = id;
		this.fields = this.options.filter((option) => option.modalonly !== false);
		const dialog = E('dialog', { open: '' }, E('h2', {}, id), ...this.tabs.map(([ tab, title ]) => E('fieldset', {}, E('legend', {}, title),
			...this.fields.filter((option) => option.tab === tab).map((option) => option.render(id)))));
		this.checkDepends();
		return dialog;
	}

	// A field is shown if one of its conditions holds; a hidden field has no value. Showing one may show others.
	checkDepends() {
		const holds = (needs) => Object.entries(needs).every(([ name, wanted ]) => {
			const other = this.fields.find((option) => option.option === name);
			return other.active() && (wanted instanceof RegExp ? wanted.test(other.formvalue()) : other.formvalue() === wanted);
		});
		for (let changed = true; changed;) {
			changed = false;
			for (const option of this.fields || []) {
				const hidden = option.deps.length > 0 && !option.deps.some(holds);
				changed ||= hidden !== option.node.hidden;
				option.node.hidden = hidden;
			}
		}
	}

	// What keeps it from being saved, by the name of the field; saved if there is nothing.
	save() {
		const faults = {};
		for (const option of this.fields) {
			const fault = option.active() && option.fault(this.id);
			if (fault)
				faults[option.option] = fault;
		}
		if (!Object.keys(faults).length)
			this.fields.forEach((option) => option.parse(this.id));
		return faults;
	}
}

class Map_ {
	constructor(config, title, description) { Object.assign(this, { config, title, description, sections: [] }); }
	section(cls, type, title) {
		const section = new cls(type, title);
		this.sections.push(section);
		return section;
	}
	async render() {
		globalThis.map = this;
		return E('main', {}, E('h1', {}, this.title), html(this.description), ...this.sections.map((section) => section.render()));
	}
}

// ---- modules

const base = { extend: (methods) => class { constructor() { Object.assign(this, methods); } } };

const MODULES = {
	baseclass: base,
	view: base,
	form: { Map: Map_, GridSection, Value, ListValue, Flag, DynamicList, DummyValue },
	'tools.widgets': { NetworkSelect, DeviceSelect, UserSelect },
	uci: { load: async () => {}, get: (config, id, option) => CONFIG[id]?.[option] },
	ui: { addNotification: (title, node) => document.body.append(E('div', { class: 'notice' }, node)) },
	poll: { add: (call) => POLLED.push(call) },
	fs: {
		exec: async (program, args) => {
			ASKED.push([ program, ...args ].join(' '));
			return REPLIES.exec(program, args);
		}
	},
	rpc: {
		declare: ({ object, method, expect }) => async () => {
			const [ [ key, otherwise ] ] = Object.entries(expect);
			return REPLIES[object][method][key] ?? otherwise;
		}
	}
};

const L = { hasViewPermission: () => REPLIES.writes ?? true };

// A module is a function of what its `require` lines name, and gives a class, of which there is one value.
function required(name) {
	if (!MODULES[name]) {
		const needs = [ ...SOURCES[name].matchAll(/^'require (\S+?)(?: as (\S+))?';$/gm) ];
		const made = new Function(...needs.map((need) => need[2] || need[1]), SOURCES[name]);
		MODULES[name] = new (made(...needs.map((need) => required(need[1]))))();
	}
	return MODULES[name];
}
