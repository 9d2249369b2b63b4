#!/bin/sh
# The service on OpenWrt's own procd, ubus, UCI, logd, rpcd and rc.common. No part of `make test`, which has no router:
#
#   router.sh ROOT PROGRAM        as root; ROOT is a folder with OpenWrt's root file system, such as its x86-64 rootfs archive unpacked,
#                                 PROGRAM a binary that runs in it
#
# ROOT is copied, and used in namespaces of its own; in place of netifd stands a program that says what this script writes into
# /tmp/networks. Prints a line a test; status 1 if one failed.
#
# shellcheck shell=dash disable=SC2016,SC2317,SC3043
set -u
here="$(cd "$(dirname "$0")" && pwd)"

if [ "${1:-}" != inside ]; then
	copy="$(mktemp -d)"
	trap 'rm -rf "$copy"' EXIT
	cp -a "$1/." "$copy"
	mkdir -p "$copy/proc" "$copy/dev" "$copy/usr/bin" "$copy/etc/init.d" "$copy/etc/config" "$copy/tmp"
	cp "$2" "$copy/usr/bin/nodepass"
	cp "$here/../nodepass/files/nodepass.init" "$copy/etc/init.d/nodepass"
	chmod 755 "$copy/usr/bin/nodepass" "$copy/etc/init.d/nodepass"
	mkdir -p "$copy/usr/share/rpcd/acl.d"
	cp "$here/../../luci-app-nodepass/root/usr/share/rpcd/acl.d/luci-app-nodepass.json" "$copy/usr/share/rpcd/acl.d"
	cp "$0" "$copy/tmp/router.sh"
	# The processes end with the first one of their namespace.
	unshare --mount --pid --net --fork sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && ip link set lo up &&
		exec chroot "$0" /bin/sh /tmp/router.sh inside' "$copy"
	exit
fi

failed=0
# ok <text> <command>...
ok() {
	local text="$1"
	shift
	if "$@"; then
		echo "ok      $text"
	else
		echo "FAILED  $text"
		failed=1
	fi
}

# until_so <command>...: within some seconds.
until_so() {
	local tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || return 1
		sleep 0.1
	done
}

instances() {
	ubus call service list '{"name":"nodepass"}'
}

# state <instance> <field>
state() {
	instances | jsonfilter -e "@.nodepass.instances.$1.$2"
}

is() {
	[ "$(state "$1" "$2")" = "$3" ]
}

differs() {
	[ -n "$(state "$1" pid)" ] && ! is "$1" pid "$2"
}

# opened <port>: what the firewall asks procd has it.
opened() {
	ubus call service get_data '{"type":"firewall"}' | grep -qF "\"dest_port\": \"$1\""
}

hidden() {
	! instances | grep -F 'sec-ret' && ! tr '\0' ' ' <"/proc/$(state a pid)/cmdline" | grep -F 'sec-ret'
}

not() {
	! "$@"
}

# event <interface.update or interface.down> <network>: as netifd tells it.
event() {
	ubus call network.interface tell "{\"event\":\"$1\",\"name\":\"$2\"}" >/dev/null
}

logged() {
	logread | grep -qE "$1"
}

# starts: how often the service was asked to start something.
starts() {
	ubus call service list '{"name":"nodepass"}' >/dev/null && wc -l </tmp/starts
}

# may <object> <function>: whether a session with the rights of the page may call it.
may() {
	ubus call session access "{\"ubus_rpc_session\":\"$session\",\"scope\":\"$1\",\"object\":\"$2\",\"function\":\"$3\"}" | grep -q true
}

mkdir -p /var/run/ubus /var/lock /var/log /tmp/.uci /var/state
ubusd &
until_so test -S /var/run/ubus/ubus.sock
procd -S >/tmp/procd.log 2>&1 &
until_so ubus -t 1 wait_for service
logd -S 64 >/dev/null 2>&1 &
until_so ubus -t 1 wait_for log

# In place of netifd.
cat >/tmp/netifd.uc <<'END'
import * as ubus from 'ubus';
import * as uloop from 'uloop';
import { readfile } from 'fs';

uloop.init();
let bus = ubus.connect(), here;
here = bus.publish('network.interface', {
	dump: { call: () => json(readfile('/tmp/networks')) },
	tell: { args: { event: '', name: '' }, call: (request) => { here.notify(request.args.event, { interface: request.args.name }); return {}; } }
});
uloop.run();
END
cat >/etc/init.d/network <<'END'
#!/bin/sh /etc/rc.common
START=20
USE_PROCD=1
start_service() {
	procd_open_instance
	procd_set_param command ucode /tmp/netifd.uc
	procd_set_param watch network.interface
	procd_close_instance
}
END
chmod 755 /etc/init.d/network
echo '{ "interface": [ { "interface": "wan2", "up": false } ] }' >/tmp/networks
/etc/init.d/network start
until_so ubus -t 1 wait_for network.interface

# What is started is counted.
sed -i 's|^start_service() {|&\n\techo >>/tmp/starts|' /etc/init.d/nodepass
: >/tmp/starts
cat >/etc/config/nodepass <<'END'
config instance 'a'
	option role 'server'
	option password 'sec-ret'
	option tunnel '127.0.0.1:10101'
	list target '127.0.0.1:8080'
	option mode '1'
	option firewall '1'

config instance 'b'
	option role 'client'
	option tunnel ':10102'
	list target '127.0.0.1:80'
	option mode '1'
	option firewall '1'

config instance 'bad'
	option url 'client://:10103/127.0.0.1:80?tls=7'
	option respawn_timeout '1'
	option respawn_retry '1'

config instance 'by'
	option role 'client'
	option tunnel '127.0.0.1:10109'
	list target '127.0.0.1:80'
	option mode '2'
	option interface 'wan2'
END
/etc/init.d/nodepass start
ok 'a section is a running instance' until_so is a running true
ok 'and another one' until_so is b running true
ok 'no list of services or processes shows the key' hidden
ok 'the firewall is told what is to be open' opened 10102
ok 'the service runs, and one instance of it' /etc/init.d/nodepass running
ok 'one of them by its name' /etc/init.d/nodepass running b
ok 'an instance that is not there does not run' not /etc/init.d/nodepass running nobody
ok 'lines of the log have their level and no second time' until_so logged 'daemon\.warn nodepass\[[0-9]+\]: [A-Za-z]'
ok 'what keeps a section from starting is one line an attempt' until_so logged 'daemon\.err nodepass\[[0-9]+\]: Error: .*bad parameter tls'
ok 'a client whose network is down waits' not is by running true
ok 'and says so' until_so logged 'daemon\.notice nodepass: section by waits for a network: wan2'

first_a="$(state a pid)" first_b="$(state b pid)"
sed -i 's/:10102/:10104/' /etc/config/nodepass
/etc/init.d/nodepass reload
ok 'a section whose URL has changed is taken over by another process' until_so logged 'nodepass\[[0-9]+\]: .* goes on from here'
ok 'which the first one waits for' is b pid "$first_b"
ok 'and the firewall hears of another port' opened 10104
sed -i "s/:10104'/&\n\toption nofile '4096'/; s/:10104/:10105/" /etc/config/nodepass
/etc/init.d/nodepass reload
ok 'one that is to run in another way is started anew' until_so differs b "$first_b"
ok 'and runs' until_so is b running true
ok 'and the other runs on' is a pid "$first_a"

ok 'what fails at once is given up' until_so logged 'procd: Instance nodepass::bad s in a crash loop'
ok 'and stays there' is bad running false
sed -i 's/tls=7/tls=1/' /etc/config/nodepass
before="$(starts)"
event interface.down wan2
event interface.update lan
# A trigger waits for a second; this one is told later and done sooner than either, if they are anything at all.
sleep 3
ok 'interfaces that go down, and those of others, start nothing' test "$(starts)" = "$before"
echo '{ "interface": [ { "interface": "wan2", "up": true, "l3_device": "lo" } ] }' >/tmp/networks
event interface.update wan2
ok 'a network that comes up starts its client' until_so is by running true
ok 'by its device' grep -q 'bind=lo$' /var/run/nodepass/by
ok 'what was given up is tried again, with a new count of failures' until_so is bad running true
ok 'and the others run on' is a pid "$first_a"

/etc/init.d/nodepass stop b
ok 'one section is stopped by its name' until_so not is b running true
event interface.update wan2
sleep 3
ok 'and is not started by an interface' not is b running true
ok 'the others run on' is a pid "$first_a"
/etc/init.d/nodepass start b
ok 'it is started by its name' until_so is b running true
before="$(state b pid)"
/etc/init.d/nodepass restart b
ok 'and started anew by its name' until_so differs b "$before"
ok 'while the others run on' is a pid "$first_a"

# What a session with the rights of LuCI's page may do.
if [ -f /usr/share/rpcd/acl.d/luci-app-nodepass.json ] && command -v rpcd >/dev/null; then
	rpcd >/dev/null 2>&1 &
	until_so ubus -t 1 wait_for session
	session="$(ubus call session create '{"timeout":300}' | jsonfilter -e '@.ubus_rpc_session')"
	program="$(sed -n 's/.*"\(.*\)": \[ "exec" \].*/\1/p' /usr/share/rpcd/acl.d/luci-app-nodepass.json)"
	ubus call session grant "{\"ubus_rpc_session\":\"$session\",\"scope\":\"file\",\"objects\":[[\"$program\",\"exec\"]]}"
	ok 'the page may run the service' may file /etc/init.d/nodepass exec
	ok 'and nothing else' not may file /bin/sh exec
	asked="$(ubus call file exec "{\"ubus_rpc_session\":\"$session\",\"command\":\"/etc/init.d/nodepass\",\"params\":[\"stop\",\"b\"]}")"
	ok 'its button stops a section' until_so not is b running true
	ok 'and is told of it' test "$(echo "$asked" | jsonfilter -e @.code)" = 0
fi

sed -i "s/option password/option pasword/" /etc/config/nodepass
/etc/init.d/nodepass reload
gone() { [ -z "$(state a pid)" ]; }
ok 'a server whose password is misspelt does not run' until_so gone
ok 'and its file is gone' not test -e /var/run/nodepass/a
/etc/init.d/nodepass stop
ok 'a stopped service does not run' until_so not /etc/init.d/nodepass running
[ "$failed" = 0 ] || { cat /tmp/procd.log; logread | tail -n 40; }
exit "$failed"
