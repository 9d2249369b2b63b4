#!/usr/bin/env python3
"""The translations of the page for LuCI.

    po.py                  brings po/templates and po/zh_Hans up to date with the texts of the page; what is not translated yet is named
    po.py --check          changes nothing, and fails where something is to be done
    po.py --lmo PO FILE    writes a translation in the form in which LuCI reads it

What parameters and variables do and accept is translated in one place: docs/usage_zh.md.
"""
import glob
import json
import os
import re
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATE = os.path.join(HERE, "po/templates/nodepass.pot")
CHINESE = os.path.join(HERE, "po/zh_Hans/nodepass.po")
USAGE = os.path.join(HERE, "../../docs/usage_zh.md")
STRING = r'"(?:\\.|[^"])*"'

HEAD = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n'
CHINESE_HEAD = (
    'msgid ""\nmsgstr ""\n"Language: zh_Hans\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
    '"Content-Transfer-Encoding: 8bit\\n"\n"Plural-Forms: nplurals=1; plural=0;\\n"\n'
)


def main():
    if sys.argv[1:2] == ["--lmo"]:
        with open(sys.argv[3], "wb") as out:
            out.write(lmo(read(sys.argv[2])))
        return
    check = sys.argv[1:] == ["--check"]
    texts = page()
    known = {**read(CHINESE), **tables(texts)}
    files = {TEMPLATE: HEAD + entries(texts, {}), CHINESE: CHINESE_HEAD + entries(texts, known)}
    wrong = [os.path.relpath(path, HERE) + " is out of date: run po.py" for path, text in files.items() if text != content(path)]
    if not check:
        for path, text in files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        wrong = []
    wrong += [f"po/zh_Hans/nodepass.po has no translation of: {text}" for text in sorted(texts) if not known.get(text)]
    if wrong:
        sys.exit("\n".join(wrong))


def page():
    """All texts, each with the files that have it."""
    texts = {}
    for path in sorted(glob.glob(os.path.join(HERE, "htdocs/**/*.js"), recursive=True)):
        for quote, inner in re.findall(r"\b_\(\s*(['\"])((?:\\.|(?!\1).)*)\1", content(path)):
            text = json.loads('"' + (inner.replace("\\'", "'").replace('"', '\\"') if quote == "'" else inner) + '"')
            texts.setdefault(text, []).append(os.path.relpath(path, HERE))
    for path in sorted(glob.glob(os.path.join(HERE, "root/usr/share/**/*.json"), recursive=True)):
        for text in re.findall(r'"(?:title|description)": "([^"]*)"', content(path)):
            texts.setdefault(text, []).append(os.path.relpath(path, HERE))
    return texts


def tables(texts):
    """What parameters and variables do and accept, as the Chinese documentation says it."""
    rows = content(os.path.join(HERE, "htdocs/luci-static/resources/nodepass/tables.js"))
    chinese = {cells[1]: cells for cells in (re.split(r" *(?<!\\)\| *", line) for line in content(USAGE).splitlines() if line.startswith("| `"))}
    said = {}
    for name, text, accepted in re.findall(r'^\t\t\[("[^"]*"),_\((%s)\),(?:null|"[^"]*"),(%s),' % (STRING, STRING), rows, re.M):
        cells = chinese.get(f"`{json.loads(name)}`")
        if cells:
            said[json.loads(text)] = cells[2].replace("`", "").replace("\\|", "|")
            said[json.loads(accepted)] = cells[4].replace("`", "").replace("\\|", "|")
    return {text: each for text, each in said.items() if text in texts}


def entries(texts, known):
    quoted = lambda text: json.dumps(text, ensure_ascii=False)
    each = lambda text: "".join(f"#: {path}\n" for path in dict.fromkeys(texts[text])) + f"msgid {quoted(text)}\nmsgstr {quoted(known.get(text, ''))}\n"
    return "".join("\n" + each(text) for text in sorted(texts))


def read(path):
    """The translations of a file that this program wrote."""
    pairs = re.findall(f"^msgid ({STRING})\nmsgstr ({STRING})$", content(path), re.M)
    return {json.loads(text): json.loads(said) for text, said in pairs if text != '""'}


def content(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def lmo(known):
    """Values, then an index of 16 bytes each (hash, number of forms, offset, length; sorted), then where that begins; big-endian."""
    values, index = b"", [(0, 0, "nplurals=1; plural=0;")]
    index += [(hashed(text), 1, said) for text, said in known.items() if said and text != said]
    rows = []
    for key, forms, said in index:
        data = said.encode()
        rows.append((key, forms, len(values), len(data)))
        values += data + bytes(-len(data) % 4)
    return values + b"".join(struct.pack(">4I", *row) for row in sorted(rows)) + struct.pack(">I", len(values))


def hashed(text):
    """Paul Hsieh's hash, seeded with the length, as LuCI looks texts up by it."""
    data, low = text.encode(), 0xFFFFFFFF
    sum_ = len(data)
    pair = lambda at: data[at] | data[at + 1] << 8
    signed = lambda byte: byte - 256 if byte > 127 else byte
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        sum_ = (sum_ + pair(at)) & low
        sum_ = (sum_ << 16) & low ^ ((pair(at + 2) << 11) & low ^ sum_)
        sum_ = (sum_ + (sum_ >> 11)) & low
    rest = len(data) - whole
    if rest == 3:
        sum_ = (sum_ + pair(whole)) & low
        sum_ ^= (sum_ << 16) & low
        sum_ ^= (signed(data[whole + 2]) << 18) & low
        sum_ = (sum_ + (sum_ >> 11)) & low
    elif rest == 2:
        sum_ = (sum_ + pair(whole)) & low
        sum_ ^= (sum_ << 11) & low
        sum_ = (sum_ + (sum_ >> 17)) & low
    elif rest == 1:
        sum_ = (sum_ + signed(data[whole])) & low
        sum_ ^= (sum_ << 10) & low
        sum_ = (sum_ + (sum_ >> 1)) & low
    for left, right in [(3, 5), (4, 17), (25, 6)]:
        sum_ ^= (sum_ << left) & low
        sum_ = (sum_ + (sum_ >> right)) & low
    return sum_


if __name__ == "__main__":
    main()
