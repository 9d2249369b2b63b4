#!/bin/sh
# Tests of /etc/init.d/nodepass: with a configuration in place of the router's, what is started, and is it what was meant?
#
#   NODEPASS=<the program> busybox ash init.sh        prints a line a test; status 1 if one failed
#
# shellcheck shell=dash disable=SC3043,SC2317,SC2016,SC1091,SC2015

here="$(cd "$(dirname "$0")" && pwd)"
INIT="${INIT:-$here/../nodepass/files/nodepass.init}"
export INIT
NODEPASS="${NODEPASS:?the program under test}"

# What means something to a shell, to UCI or in a URL, and a letter of two bytes.
NASTY=' a%41+%/?#&=@:;,"`$(id)\*[x]~|<>ü'"'"

# given: the configuration comes from stdin.
given() {
	cat >"$ROOT/nodepass"
}

# quoted <text>: as `uci export` writes it.
quoted() {
	printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

# init <action> [<section>]: runs the script under test in a shell of its own.
init() {
	ROOT="$ROOT" busybox ash -c '. "$0" && run "$@"' "$here/stub.sh" "$@"
}

# called <line>: procd heard this.
called() {
	grep -qxF -- "$1" "$ROOT/procd" || fail "procd did not hear: $1
$(cat "$ROOT/procd")"
}

not_called() {
	! grep -qF -- "$1" "$ROOT/procd" || fail "procd heard: $1"
}

logged() {
	grep -qxF -- "$1" "$ROOT/log" || fail "not in the log: $1
$(cat "$ROOT/log")"
}

quiet() {
	[ ! -s "$ROOT/log" ] || fail "in the log: $(cat "$ROOT/log")"
}

# url <section>: the URL it is started with, in the file that it is told.
url() {
	grep -q "^set_param|command|.*|@$ROOT/run/$1\$" "$ROOT/procd" || fail "procd did not hear of $1
$(cat "$ROOT/procd")"
	cat "$ROOT/run/$1"
}

fail() {
	echo "$1" >&2
	exit 1
}

# says <text> <command>...: the program says this, on a line that has it, within some seconds; then it is stopped.
says() {
	local text="$1" pid tries=0
	shift
	: >"$ROOT/said"
	env NP_SHUTDOWN_TIMEOUT=100ms NP_SERVICE_COOLDOWN=300ms "$@" >"$ROOT/said" 2>&1 &
	pid=$!
	until grep -qF -- "$text" "$ROOT/said"; do
		tries=$((tries + 1))
		if [ "$tries" -gt 200 ]; then
			kill "$pid"
			fail "never said: $text
$(cat "$ROOT/said")"
		fi
		sleep 0.1
	done
	kill "$pid" 2>/dev/null
	wait "$pid"
}

# A port that was free a moment ago: the low half of what the system gives out is left to others.
port() {
	local port
	while :; do
		port=$((20000 + $(head -c2 /dev/urandom | od -An -tu2) % 10000))
		grep -qi ":$(printf %04x "$port") " /proc/net/tcp /proc/net/udp || break
	done
	echo "$port"
}

the_shipped_configuration_starts_nothing_and_can_be_read() {
	cp "$here/../nodepass/files/nodepass.config" "$ROOT/nodepass"
	init start
	not_called open_instance
	quiet
	sed -i "s/enabled '0'/enabled '1'/; s|config master 'master'|&\n\toption NP_STATE_DIR '$ROOT/state'|" "$ROOT/nodepass"
	init start
	quiet
	[ "$(url web)" = 'client://change-me@server.example:10101/192.168.1.10:80?mode=2' ] || fail "web: $(url web)"
	[ "$(url forward)" = 'client://:8080/192.168.1.10:80,192.168.1.11:80?lbs=2&mode=1' ] || fail "$(url forward)"
	[ "$(url raw)" = 'server://change-me@:10101/:8080?mode=1&tls=1' ] || fail "raw: $(url raw)"
	[ "$(url master)" = 'master://192.168.1.1:9090/api?tls=1' ] || fail "master: $(url master)"
}

an_instance_is_watched_bounded_and_heard() {
	given <<-'END'
		config instance 'a'
			option role 'server'
			option tunnel ':1000'
			option target '10.0.0.1:80'
	END
	init start
	called 'open_instance|a'
	called "set_param|command|/usr/bin/nodepass|@$ROOT/run/a"
	[ "$(url a)" = 'server://:1000/10.0.0.1:80' ] || fail "$(url a)"
	[ "$(stat -c %a "$ROOT/run") $(stat -c %a "$ROOT/run/a")" = '711 600' ] || fail "$(ls -l "$ROOT/run")"
	not_called '://'
	called 'append_param|env|NP_CHECK_POINT=0'
	called 'append_param|env|NP_LOG_FORMAT=syslog'
	called 'set_param|respawn|60|5|10'
	called 'set_param|limits|nofile=65536 65536|core=0'
	called 'set_param|stdout|1'
	called 'set_param|stderr|1'
	called 'set_param|term_timeout|10'
	called 'set_param|no_new_privs|1'
	called 'close_instance'
	not_called add_jail
	not_called NP_STATE_DIR
	quiet
}

several_sections_are_several_instances_and_a_disabled_one_is_none() {
	given <<-'END'
		config instance 'a'
			option role 'client'
			option tunnel 'h:1'
			list target 't:2'
		config instance
			option role 'client'
			option tunnel 'h:3'
			list target '[2001:db8::1]:4'
			list target 't:5'
		config instance 'off'
			option enabled '0'
			option role 'nonsense'
		config master 'm'
			option enabled 'no'
			option tunnel ':1'
	END
	init start
	[ "$(grep -c '^open_instance' "$ROOT/procd")" = 2 ] || fail "$(cat "$ROOT/procd")"
	[ "$(url a)" = 'client://h:1/t:2' ] || fail "$(url a)"
	[ "$(url cfg2)" = 'client://h:3/[2001:db8::1]:4,t:5' ] || fail "$(url cfg2)"
	quiet
}

a_bad_section_is_told_and_the_others_go_on() {
	given <<-'END'
		config instance 'norole'
			option tunnel 'h:1'
			list target 't:2'
		config instance 'badrole'
			option role 'sever'
		config instance 'nowhere'
			option role 'server'
		config instance 'notarget'
			option role 'server'
			option tunnel 'h:1'
		config instance 'key'
			option role 'server'
			option tunnel 'secret@h:1'
		config instance 'url'
			option url 'http://h:1'
		config instance 'good'
			option role 'server'
			option tunnel ':1'
			list target 't:2'
	END
	init start
	logged 'err|section norole is not started: option role is missing: expected server or client'
	logged 'err|section badrole is not started: bad role "sever": expected server or client'
	logged 'err|section nowhere is not started: option tunnel is missing: expected host:port, or :port for all interfaces'
	logged 'err|section notarget is not started: option target is missing: expected host:port'
	logged 'err|section key is not started: bad tunnel: expected host:port alone (the key is option password)'
	logged 'err|section url is not started: bad url: expected server://, client:// or master:// first'
	[ "$(grep -c '^open_instance' "$ROOT/procd")" = 1 ] || fail "$(cat "$ROOT/procd")"
	called 'open_instance|good'
	! grep -q secret "$ROOT/log" || fail "a key is in the log"
}

a_raw_url_is_taken_as_it_is_and_what_it_displaces_is_told() {
	given <<-'END'
		config instance 'a'
			option url 'client://k%2F@h:1/t:2?tls=1&sni=x'
			option tls '0'
			option password 'other'
			option NP_WORKERS '2'
	END
	init start
	[ "$(url a)" = 'client://k%2F@h:1/t:2?tls=1&sni=x' ] || fail "$(url a)"
	called 'append_param|env|NP_WORKERS=2'
	logged 'warn|section a: option url says it all, ignored: password tls'
}

a_master_keeps_its_state_where_no_other_user_reads_it() {
	given <<-END
		config master 'm'
			option tunnel '127.0.0.1:9000'
			option prefix '/my api/'
			option log 'warn'
			option NP_STATE_DIR '$ROOT/state'
	END
	init start
	[ "$(url m)" = 'master://127.0.0.1:9000/my%20api/?log=warn' ] || fail "$(url m)"
	called "append_param|env|NP_STATE_DIR=$ROOT/state"
	[ "$(stat -c %a "$ROOT/state")" = 700 ] || fail "$(stat -c %a "$ROOT/state")"
	# Without the option it is a folder of its own in one that upgrades keep.
	sed -i '/NP_STATE_DIR/d' "$ROOT/nodepass"
	init start
	called "append_param|env|NP_STATE_DIR=$ROOT/state/m"
	[ "$(stat -c %a "$ROOT/state/m")" = 700 ] || fail "$(stat -c %a "$ROOT/state/m")"
}

a_masters_user_gets_its_state_and_nothing_beside_it() {
	[ "$(id -u)" = 0 ] || return 0
	given <<-END
		config master 'm'
			option tunnel '127.0.0.1:9000'
			option user 'nobody'
			option NP_STATE_DIR '$ROOT/shared'
	END
	mkdir "$ROOT/shared"
	touch "$ROOT/shared/site.key" "$ROOT/shared/nodepass.gob"
	init start
	[ "$(stat -c %U "$ROOT/shared" "$ROOT/shared/nodepass.gob" "$ROOT/shared/site.key" | tr '\n' ' ')" = 'nobody nobody root ' ] ||
		fail "$(ls -la "$ROOT/shared")"
}

what_is_misspelt_is_told_and_no_tunnel_is_open_by_it() {
	given <<-'END'
		config instance 'open'
			option role 'server'
			option pasword 'k'
			option tunnel ':1'
			list target 't:2'
		config instance 'rate'
			option role 'server'
			option password 'k'
			option rat '5'
			list targets 't:3'
			option tunnel ':1'
			list target 't:2'
		config instance 'raw'
			option url 'client://k@h:1/t:2'
			option enable '1'
		config tunnel 'typo'
			option role 'server'
	END
	init start
	logged 'warn|section typo is left out: unknown type "tunnel", expected instance or master'
	logged 'err|section open is not started: unknown option: pasword; and there is no option password: is it misspelt?'
	logged 'warn|section rate: unknown option: rat targets'
	logged 'warn|section raw: unknown option: enable'
	[ "$(grep -c '^open_instance' "$ROOT/procd")" = 2 ] || fail "$(cat "$ROOT/procd")"
	init check >"$ROOT/shown"
	grep -qF 'typo is left out' "$ROOT/shown" && grep -qxF 'rate: note: unknown option: rat targets' "$ROOT/shown" &&
		grep -q '^open: unknown option: pasword' "$ROOT/shown" || fail "$(cat "$ROOT/shown")"
}

a_section_that_is_gone_leaves_no_file_with_its_key() {
	printf "config instance 'a'\noption url 'client://k@:1/t:2'\nconfig instance 'b'\noption url 'client://k@:3/t:2'\n" | given
	init start
	sed -i '/config instance .b/,$d' "$ROOT/nodepass"
	init reload
	[ "$(ls "$ROOT/run")" = a ] || fail "$(ls "$ROOT/run")"
}

the_firewall_is_told_the_ports_at_which_the_network_is_served_and_only_if_asked() {
	local section url ports
	while read -r section url ports; do
		printf "config instance '%s'\n\toption firewall '1'\n\toption url '%s'\n" "$section" "$url" | given
		init start
		[ "$(sed -n 's/^json_add_string|dest_port|//p' "$ROOT/procd")" = "$ports" ] || fail "$url: $(cat "$ROOT/procd")"
	done <<-'END'
		a server://k@:10101/:8080?mode=1 10101 8080
		b server://k@0.0.0.0:10101/10.0.0.1:80?mode=2 10101
		c client://k@server.example:10101/:8080?mode=2 8080
		d client://k@server.example:10101/127.0.0.1:80
		e client://:8080/10.0.0.1:80,10.0.0.2:80?lbs=1&mode=1 8080
		f master://[::]:9090/api 9090
		g master://127.0.0.1:9090/api
		h server://k@[::1]:10101/:80 80
	END
	sed -i '/firewall/d' "$ROOT/nodepass"
	init start
	not_called json_
	called 'set_config_changed|firewall'
}

every_variable_reaches_the_environment() {
	{
		echo "config instance a"
		echo "option url 'client://:1/t:2'"
		for name in $VARIABLES; do echo "option $name '7s $name'"; done
		echo "list env 'HTTPS_PROXY=http://u:p@proxy:1'"
		echo "list env $(quoted "X=$NASTY")"
	} | given
	init start
	for name in $VARIABLES; do called "append_param|env|$name=7s $name"; done
	called 'append_param|env|HTTPS_PROXY=http://u:p@proxy:1'
	called "append_param|env|X=$NASTY"
}

what_the_service_may_do_is_set_by_section() {
	given <<-'END'
		config instance 'a'
			option url 'client://:1/t:2'
			option program '/opt/nodepass'
			option nofile '512'
			option respawn_threshold '10'
			option respawn_timeout '1'
			option respawn_retry '0'
			option term_timeout '30'
			option user 'nobody'
	END
	init start
	called "set_param|command|/opt/nodepass|@$ROOT/run/a"
	called 'set_param|limits|nofile=512 512|core=0'
	called 'set_param|respawn|10|1|0'
	called 'set_param|term_timeout|30'
	called 'set_param|user|nobody'
	[ "$(stat -c %U "$ROOT/run/a")" = nobody ] || [ "$(id -u)" != 0 ] || fail "$(ls -l "$ROOT/run")"
}

a_jail_shows_what_is_needed_and_is_told_about_if_there_is_none() {
	given <<-'END'
		config instance 'a'
			option role 'server'
			option tunnel ':1'
			list target 't:2'
			option crt '/c'
			option key '/k'
			option jail '1'
	END
	sed "s|/sbin/ujail|$ROOT/ujail|" "$INIT" >"$ROOT/script"
	INIT="$ROOT/script" init start
	logged 'warn|section a: no jail, since procd-ujail is not installed'
	not_called add_jail
	printf '#!/bin/sh\n' >"$ROOT/ujail"
	chmod +x "$ROOT/ujail"
	INIT="$ROOT/script" init start
	quiet
	called 'add_jail|nodepass-a|log|procfs|ronly|requirejail'
	called 'add_jail_mount|/c'
	called 'add_jail_mount|/k'
	grep -q '^add_jail_mount|/usr/bin/nodepass|.*|/etc/resolv.conf|' "$ROOT/procd" || fail "$(cat "$ROOT/procd")"
	# procd takes the paths apart at blanks.
	sed -i "s|'/c'|'/my c'|" "$ROOT/nodepass"
	INIT="$ROOT/script" init start
	logged 'warn|section a: a jail does not show files whose paths have blanks or *?[ in them: /my c'
	called 'add_jail_mount|/k'
}

the_documentations_example_is_started_as_it_is() {
	sed -n "/^config instance/,/^\`\`\`/p" "$here/../../../docs/openwrt.md" | grep -v '^`' |
		sed "s|config master 'master'|&\n\toption NP_STATE_DIR '$ROOT/state'|" | given
	init start
	quiet
	[ "$(url web)" = 'client://a%20long%20secret@server.example:10101/192.168.1.10:80?min=8&mode=2' ] || fail "$(url web)"
	[ "$(url master)" = 'master://192.168.1.1:9090?tls=1' ] || fail "$(url master)"
}

a_change_of_the_configuration_and_interfaces_that_come_up_reload() {
	given <<-'END'
		config instance 'a'
			option url 'client://:1/t:2'
		config instance 'b'
			option url 'client://:3/t:2'
			list interface 'lan'
			list interface 'wan'
	END
	init start
	called 'add_reload_trigger|nodepass'
	for name in wan wan6 lan; do called "add_interface_trigger|interface.update|$name|/etc/init.d/nodepass|resume"; done
	[ "$(grep -c interface_trigger "$ROOT/procd")" = 3 ] || fail "$(cat "$ROOT/procd")"
}

a_section_is_started_and_stopped_by_its_name_and_stays_stopped_until_it_is_asked_for() {
	given <<-'END'
		config instance 'a'
			option url 'client://k@:1/t:2'
		config instance 'b'
			option url 'client://k@:3/t:2'
	END
	init start b
	called 'open_instance|b'
	not_called 'open_instance|a'
	init start
	init stop a
	called 'kill|nodepass|a'
	not_called 'kill|nodepass|b'
	# An interface comes up; b had been given up.
	echo 'b 0' >"$ROOT/instances"
	init resume
	called 'kill|nodepass|b'
	called 'open_instance|b'
	not_called 'open_instance|a'
	init start a
	called 'open_instance|a'
	not_called 'open_instance|b'
	[ -f "$ROOT/run/b" ] || fail "the URL of another section is gone"
	printf 'a 1\nb 1\n' >"$ROOT/instances"
	init resume
	not_called 'kill|'
	called 'open_instance|a'
	init stop a
	init reload
	called 'open_instance|a'
	[ ! -e "$ROOT/run/a.stopped" ] || fail "$(ls "$ROOT/run")"
}

a_client_calls_by_the_first_of_its_networks_that_is_up() {
	given <<-'END'
		config instance 'a'
			option role 'client'
			option tunnel 'h:1'
			list target 't:2'
			option min '8'
			list interface 'wan2'
			list interface 'wan'
		config instance 'chosen'
			option role 'client'
			option tunnel 'h:1'
			list target 't:2'
			option bind '192.0.2.1'
			option interface 'wan2'
		config instance 'server'
			option role 'server'
			option tunnel ':1'
			list target 't:2'
			option interface 'wan2'
		config instance 'single'
			option role 'client'
			option tunnel ':1'
			list target 't:2'
			option mode '1'
			option interface 'wan2'
	END
	init start
	logged 'notice|section a waits for a network: wan2 wan'
	not_called 'open_instance|a'
	[ "$(url chosen)" = 'client://h:1/t:2?bind=192.0.2.1' ] || fail "$(url chosen)"
	[ "$(url server) $(url single)" = 'server://:1/t:2 client://:1/t:2?mode=1' ] || fail "$(url server) $(url single)"
	init check >"$ROOT/shown"
	grep -qxF 'a: note: waits for a network: wan2 wan' "$ROOT/shown" || fail "$(cat "$ROOT/shown")"
	printf 'wan eth0.2\nlan br-lan\n' >"$ROOT/networks"
	init resume
	[ "$(url a)" = 'client://h:1/t:2?min=8&bind=eth0.2' ] || fail "$(url a)"
	printf 'wan eth0.2\nwan2 pppoe-w\n' >"$ROOT/networks"
	init resume
	[ "$(url a)" = 'client://h:1/t:2?min=8&bind=pppoe-w' ] || fail "$(url a)"
	# A link that is down for a while leaves its process alone.
	: >"$ROOT/networks"
	init resume
	[ "$(url a)" = 'client://h:1/t:2?min=8&bind=pppoe-w' ] || fail "$(url a)"
}

a_reload_says_the_same_of_what_did_not_change() {
	given <<-'END'
		config instance 'a'
			option url 'client://:1/t:2'
		config instance 'b'
			option url 'client://:3/t:2'
	END
	init start
	sed -n '/open_instance|a/,/close_instance/p' "$ROOT/procd" >"$ROOT/before"
	printf "config instance 'c'\noption url 'client://:5/t:2'\n" >>"$ROOT/nodepass"
	sed -i 's/:3/:4/' "$ROOT/nodepass"
	init reload
	sed -n '/open_instance|a/,/close_instance/p' "$ROOT/procd" | cmp - "$ROOT/before" || fail "a has changed"
	[ "$(url b) $(url c)" = 'client://:4/t:2 client://:5/t:2' ] || fail "$(cat "$ROOT/procd")"
}

a_section_whose_url_alone_has_changed_is_signalled_and_not_started_anew() {
	local name
	given <<-'END'
		config instance 'same'
			option url 'client://:1/t:2'
		config instance 'url'
			option url 'client://:3/t:2'
		config instance 'both'
			option url 'client://:4/t:2'
			option firewall '1'
		config instance 'ended'
			option url 'client://:5/t:2'
		config instance 'quic'
			option url 'server://:6/t:2?type=1'
		config instance 'jail'
			option url 'client://:7/t:2'
			option jail '1'
		config master 'm'
			option url 'master://:8'
	END
	init start
	not_called send_signal
	for name in same url both ended quic; do not_called "set_param|file|$ROOT/run/$name"; done
	for name in jail m; do called "set_param|file|$ROOT/run/$name"; done
	printf '%s 1 10 as it was\n' same url quic jail m >"$ROOT/instances"
	cp "$ROOT/instances" "$ROOT/after"
	printf 'both 1 11 as it was\nended 0 stopped\n' >>"$ROOT/instances"
	printf 'both 1 11 another user\nended 0 stopped\n' >>"$ROOT/after"
	sed -i 's|t:2|t:9|; s|:8|:9|' "$ROOT/nodepass"
	sed -i '/same/{n;s|t:9|t:2|;}' "$ROOT/nodepass"
	init reload
	called 'send_signal|nodepass|url|HUP'
	called 'send_signal|nodepass|quic|HUP'
	[ "$(grep -c '^send_signal' "$ROOT/procd")" = 2 ] || fail "$(cat "$ROOT/procd")"
	[ "$(url url)" = 'client://:3/t:9' ] || fail "$(url url)"
	# Once is enough.
	init reload
	not_called send_signal
}

check_shows_what_would_be_started_without_the_keys() {
	given <<-'END'
		config instance 'a'
			option role 'server'
			option password 'sec@ret'
			option tunnel ':1'
			list target 't:2'
		config instance 'b'
			option enabled '0'
			option url 'client://sec@ret@h:1/t:2?crt=/a@b'
		config instance 'c'
			option url 'client://h:1/t:2?crt=/a@b'
		config master 'd'
	END
	init check >"$ROOT/shown"
	grep -qxF 'a: server://***@:1/t:2' "$ROOT/shown" || fail "$(cat "$ROOT/shown")"
	grep -qxF 'b (disabled): client://***@h:1/t:2?crt=/a@b' "$ROOT/shown" || fail "$(cat "$ROOT/shown")"
	grep -qxF 'c: client://h:1/t:2?crt=/a@b' "$ROOT/shown" || fail "$(cat "$ROOT/shown")"
	grep -q '^d: option tunnel is missing' "$ROOT/shown" || fail "$(cat "$ROOT/shown")"
	[ ! -s "$ROOT/procd" ] || fail "something was started"
}

renew_signals_all_instances() {
	: >"$ROOT/nodepass"
	init renew
	called 'send_signal|nodepass|*|HUP'
}

every_parameter_arrives_at_the_program_byte_by_byte() {
	local name kind role rest
	for name in $PARAMETERS; do
		kind=instance role=server
		case "$name" in
		sni | min | bind) role=client ;;
		cors) kind=master ;;
		# A path may be anything: see below.
		crt | key) continue ;;
		esac
		given <<-END
			config $kind 'a'
				option role '$role'
				option tunnel '127.0.0.1:1'
				list target '127.0.0.1:2'
				option NP_STATE_DIR '$ROOT/state'
				option $name $(quoted "$NASTY")
		END
		init start
		# A program that takes it would run on.
		busybox timeout 20 "$NODEPASS" "$(url a)" >"$ROOT/said" 2>&1 && fail "$name: $NASTY is accepted"
		# The program shows a backslash as two, and bytes beyond ASCII by their numbers.
		rest="$(printf '%s' "$NASTY" | sed 's/\\/\\\\/g; s/ü/\\xc3\\xbc/')"
		grep -qF "Error: bad parameter $name \"$rest\": expected " "$ROOT/said" || fail "$name: $(cat "$ROOT/said")"
	done
}

bytes_are_written_by_their_numbers_whatever_the_language() {
	local locale
	given <<-END
		config instance 'a'
			option role 'server'
			option password $(quoted "$(printf 'ü€😀%%\nnext line\ttab')")
			option tunnel ':1'
			list target 't:2'
	END
	for locale in C C.UTF-8; do
		LC_ALL="$locale" init start
		quiet
		[ "$(url a)" = 'server://%C3%BC%E2%82%AC%F0%9F%98%80%25%0Anext%20line%09tab@:1/t:2' ] || fail "$locale: $(url a)"
	done
}

every_parameter_has_its_effect() {
	local pair name listen
	listen="$(port)"
	for pair in server:log=debug server:tls=1 server:dns=1h30m client:sni=www.example.com server:lbs=1 server:auth=2 server:wire=2.0 client:min=7 \
		server:max=99 server:clients=3 server:mode=2 server:quic=0 server:type=0 server:dial=127.0.0.1 client:bind=127.0.0.1 server:read=10m server:rate=12 server:slot=9 server:udpslot=3 server:perip=5 server:allow=10.0.0.0/8,tunnel:::1 server:deny=192.0.2.7 \
		"server:metrics=127.0.0.1:$(port)" \
		server:proxy=1 server:block=13 server:notcp=1 server:noudp=1; do
		echo "${pair#*:}" | sed 's/=.*//' >>"$ROOT/names"
		given <<-END
			config instance 'a'
				option role '${pair%%:*}'
				option password 'k'
				option tunnel '127.0.0.1:$listen'
				list target '127.0.0.1:2'
				option log 'debug'
				option mode '2'
				$(echo "option ${pair#*:}" | sed 's/=/ /')
		END
		init start
		case "$pair" in
		# An older word for type, in whose clothes it is shown.
		*:quic=*) says ' started: server://***@' "$NODEPASS" "$(url a)" ;;
		*) says "started: ${pair%%:*}://***@127.0.0.1:$listen/127.0.0.1:2?log=debug" "$NODEPASS" "$(url a)" ;;
		esac
		case "$pair" in
		*:quic=*) ;;
		*) grep -qE "started: .*[?&]${pair#*:}(&|\$)" "$ROOT/said" || fail "$pair: $(cat "$ROOT/said")" ;;
		esac
	done
	# None is forgotten here; the certificate and a master's parameters have tests of their own.
	printf 'crt\nkey\ncors\n' >>"$ROOT/names"
	for name in $PARAMETERS; do grep -qx "$name" "$ROOT/names" || fail "$name is not tested"; done
}

a_master_takes_a_list_of_origins() {
	local listen
	listen="$(port)"
	given <<-END
		config master 'a'
			option tunnel '127.0.0.1:$listen'
			option NP_STATE_DIR '$ROOT/state'
			option cors 'https://a.example,http://[::1]:8080'
	END
	init start
	quiet
	says "Master started: 127.0.0.1:$listen" NP_STATE_DIR="$ROOT/state" "$NODEPASS" "$(url a)"
	! grep -q 'WARN .*cors' "$ROOT/said" || fail "$(cat "$ROOT/said")"
}

a_key_and_the_path_of_a_certificate_may_be_anything() {
	local listen target folder
	command -v openssl >/dev/null || return 0
	# The file names keep their nastiness except for the slash.
	folder="$ROOT/ a%41+%?#&=@:;,\"\$(id)\\*[x]~|<>ü'"
	mkdir "$folder"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=x \
		-addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$ROOT/k" -out "$ROOT/c" 2>/dev/null || fail "openssl"
	cp "$ROOT/k" "$folder/k"
	cp "$ROOT/c" "$folder/c"
	listen="$(port)" target="$(port)"
	given <<-END
		config instance 'server'
			option role 'server'
			option password $(quoted "$NASTY")
			option tunnel '127.0.0.1:$listen'
			list target '127.0.0.1:$target'
			option mode '1'
			option tls '2'
			option crt $(quoted "$folder/c")
			option key $(quoted "$folder/k")
	END
	init start
	quiet
	"$NODEPASS" "$(url server)" >"$ROOT/server" 2>&1 &
	# It goes with this test, however that ends.
	server=$!
	trap 'kill "$server" && wait "$server"' EXIT
	# The client says the same key as it is, in a flag, which is not decoded.
	says ' is up: users at the server' SSL_CERT_FILE="$folder/c" "$NODEPASS" client --password "$NASTY" --tunnel-addr 127.0.0.1 --tunnel-port "$listen" \
		--target-addr 127.0.0.1 --target-port 9 --mode 2 --min 1
}

. /dev/stdin <<END
$(sed -n '/^PARAMETERS="/,/"$/p; /^VARIABLES="/,/"$/p' "$INIT")
END

tests="$(sed -n 's/^\([a-z_]*\)() {$/\1/p' "$0" | grep -E '.*_.*_')"
failed=0
[ "${1:-}" = "" ] || tests="$*"
for name in $tests; do
	if ! grep -qx "$name() {" "$0"; then
		echo "no test $name"
		exit 1
	fi
	ROOT="$(mktemp -d)"
	if ("$name") 2>"$ROOT/why"; then
		echo "ok      $name"
	else
		echo "FAILED  $name"
		sed 's/^/        /' "$ROOT/why"
		failed=1
	fi
	rm -rf "$ROOT"
done
exit "$failed"
