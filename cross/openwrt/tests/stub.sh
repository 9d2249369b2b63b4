# What /etc/init.d/nodepass finds on a router, for a test without one: UCI, procd, rc.common and the log.
#
#   the configuration    $ROOT/nodepass, in the form of `uci export`: shell words, which is how a router reads it too
#   calls to procd       $ROOT/procd, one line a call, its words separated by |
#   lines for the log    $ROOT/log, as level|text
#   networks that are up $ROOT/networks, one line each: name, device
#   what procd has       $ROOT/instances, one line each: name, 1 if it runs; the number of its process, and what makes it another
#                        $ROOT/after is that from the second time on that it is asked for
#
# shellcheck shell=dash disable=SC3043

uci_file="$ROOT/nodepass" uci_sections=''

# A name of a line end, as the router's functions.sh has it.
# shellcheck disable=SC2034
N='
'

reset_cb() {
	config_cb() { :; }
	option_cb() { :; }
	list_cb() { :; }
}
reset_cb

config_load() {
	local stub_list stub_section
	[ "$1" = nodepass ] || return 1
	for stub_section in $uci_sections; do eval "uci_value_${stub_section}_unknown_options=''"; done
	# Loading again is starting anew; sections without a name get the same one.
	for stub_list in $uci_lists; do eval "uci_count_$stub_list=0 uci_value_$stub_list=''"; done
	uci_sections='' uci_lists='' uci_unnamed=0
	# shellcheck disable=SC1090
	. "$uci_file"
}

package() { :; }

config() {
	uci_unnamed=$((uci_unnamed + 1))
	uci_section="${2:-cfg$uci_unnamed}"
	uci_sections="$uci_sections $uci_section"
	# shellcheck disable=SC2034
	CONFIG_SECTION="$uci_section"
	eval "uci_type_$uci_section=\$1"
	config_cb "$1" "$uci_section"
}

option() {
	eval "uci_value_${uci_section}_$1=\$2"
	option_cb "$1" "$2"
}

config_set() {
	eval "uci_value_$1_$2=\$3"
}

list() {
	local stub_count
	eval "stub_count=\$((\${uci_count_${uci_section}_$1:-0} + 1))"
	eval "uci_count_${uci_section}_$1=$stub_count uci_item_${uci_section}_$1_$stub_count=\$2"
	uci_lists="$uci_lists ${uci_section}_$1"
	# A list that is read as an option is its items with spaces between.
	eval "uci_value_${uci_section}_$1=\"\${uci_value_${uci_section}_$1:+\$uci_value_${uci_section}_$1 }\$2\""
	list_cb "$1" "$2"
}

config_get() {
	eval "$1=\"\${uci_value_$2_$3:-\$4}\""
}

config_get_bool() {
	config_get "$1" "$2" "$3" "$4"
	eval "case \"\$$1\" in 1 | on | true | yes | enabled) $1=1 ;; 0 | off | false | no | disabled) $1=0 ;; *) $1=\$4 ;; esac"
}

config_foreach() {
	local stub_section stub_type stub_each="$1" stub_wanted="$2"
	shift 2
	for stub_section in $uci_sections; do
		eval "stub_type=\$uci_type_$stub_section"
		[ "$stub_type" != "$stub_wanted" ] || "$stub_each" "$stub_section" "$@"
	done
}

config_list_foreach() {
	local stub_section="$1" stub_option="$2" stub_each="$3" stub_at=0 stub_count stub_item
	shift 3
	eval "stub_count=\${uci_count_${stub_section}_$stub_option:-0}"
	while [ "$stub_at" -lt "$stub_count" ]; do
		stub_at=$((stub_at + 1))
		eval "stub_item=\$uci_item_${stub_section}_${stub_option}_$stub_at"
		"$stub_each" "$stub_item" "$@"
	done
}

# Every call to procd is written down.
recorded() {
	local stub_line="$1" stub_word
	shift
	for stub_word; do stub_line="$stub_line|$stub_word"; done
	printf '%s\n' "$stub_line" >>"$ROOT/procd"
}

for call in open_instance close_instance set_param append_param add_jail add_jail_mount add_jail_mount_rw \
	add_reload_trigger add_interface_trigger open_trigger close_trigger send_signal kill open_data close_data \
	set_config_changed; do
	eval "procd_$call() { recorded $call \"\$@\"; }"
done

for call in add_array close_array add_object close_object add_string; do
	eval "json_$call() { recorded json_$call \"\$@\"; }"
done

logger() {
	[ "$1 $2 $3" = "-t nodepass -p" ] || echo "logger is called with $*" >&2
	printf '%s\n' "${4#daemon.}|$5" >>"$ROOT/log"
}

# What netifd says is asked of a file of functions.
cat >"$ROOT/network.sh" <<'END'
network_is_up() { grep -q "^$1 " "$ROOT/networks"; }
network_get_device() { eval "$1=\"\$(sed -n 's/^$2 //p' \"\$ROOT/networks\")\""; }
END
touch "$ROOT/networks" "$ROOT/instances"

ubus() {
	cat "$ROOT/instances"
	[ ! -e "$ROOT/after" ] || mv "$ROOT/after" "$ROOT/instances"
}

# What is asked for: the field of an instance is its line here.
jsonfilter() {
	stub_at="${2#*\[\'}"
	sed -n "s/^${stub_at%%\'*} [01] *//p"
}

json_load() { :; }
json_select() { stub_at="$1"; }
json_get_keys() { eval "$1=\"\$(cut -d' ' -f1 \"\$ROOT/instances\")\""; }
json_get_var() { eval "$1=\"\$(sed -n \"s/^\$stub_at //p\" \"\$ROOT/instances\")\""; }

start() {
	start_service "$@"
	service_triggers
	service_started
}

# What rc.common does with a script of procd's.
run() {
	: >"$ROOT/procd"
	: >"$ROOT/log"
	case "$1" in
	start | reload)
		shift
		start "$@"
		;;
	stop)
		stop_service "$2"
		procd_kill nodepass "$2"
		service_stopped
		;;
	*)
		case " $EXTRA_COMMANDS " in
		*" $1 "*) "$1" ;;
		*) echo "unknown command $1" && return 1 ;;
		esac
		;;
	esac
}

# The places of a router are in $ROOT. (By the script's own constants.)
sed "s|^RUN=.*|RUN=$ROOT/run|; s|^NETWORK=.*|NETWORK=$ROOT/network.sh|; s|^STATE=.*|STATE=$ROOT/state|" "$INIT" >"$ROOT/under_test"
# shellcheck disable=SC1090,SC1091
. "$ROOT/under_test"
