#!/usr/bin/env python3
"""Prints what is inside the full program as a CycloneDX list, from what cargo knows: sbom.py >nodepass.cdx.json

Crates that only tests or the build itself use, macros among them, are left out. The same Cargo.lock and SOURCE_DATE_EPOCH make the same bytes.
"""
import datetime
import json
import os
import subprocess
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PLATFORM = "x86_64-unknown-linux-musl"


def main():
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1", "--filter-platform", PLATFORM]
    known = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in known["packages"]}
    macros = {each for each, package in packages.items() if any("proc-macro" in target["kind"] for target in package["targets"])}
    needs = {node["id"]: linked(node) - macros for node in known["resolve"]["nodes"]}
    program = known["resolve"]["root"]
    inside = reached(program, needs)
    inside.discard(program)
    with open(os.path.join(ROOT, "Cargo.lock"), encoding="utf-8") as lock:
        sums = checksums(lock.read())
    when = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.timezone.utc)
    parts = sorted((packages[each] for each in inside), key=lambda package: (package["name"], package["version"]))
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(packages[program], sums, "application"),
        },
        "components": [component(package, sums, "library") for package in parts],
        "dependencies": [
            {"ref": link(packages[each]), "dependsOn": sorted(link(packages[other]) for other in needs[each])}
            for each in sorted({program} | inside, key=lambda each: link(packages[each]))
        ],
    }
    # A number of its own for each content, as chance would make two runs differ.
    content = json.dumps(bill, sort_keys=True)
    bill["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, content).urn
    print(json.dumps(bill, indent=2))


def linked(node):
    """What is linked into a crate: neither for its tests nor for its build."""
    return {dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])}


def reached(start, needs):
    seen, waiting = set(), [start]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting.extend(needs[each])
    return seen


def checksums(lock):
    """The sums of Cargo.lock, by name and version."""
    found = {}
    for block in lock.split("[[package]]")[1:]:
        lines = (line.partition(" = ") for line in block.splitlines())
        fields = {name: value.strip('"') for name, sign, value in lines if sign}
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def link(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, sums, kind):
    part = {
        "type": kind,
        "bom-ref": link(package),
        "name": package["name"],
        "version": package["version"],
        "purl": link(package),
    }
    if package["license"]:
        part["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = sums.get((package["name"], package["version"]))
    if checksum:
        part["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return part


if __name__ == "__main__":
    main()
