# Completions of nodepass for bash. Made from the tables of the program by `make pages`.

_nodepass() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='' files=''
    # --flag=value comes as three words.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # @FILE: to readline the @ is mostly a word of its own.
    if [[ $cur == @?* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -P @ -f -- "${cur#@}")
        return
    elif [[ $cur == @ || $prev == @ ]]; then
        cur=${cur#@} files=1
    fi
    if ((COMP_CWORD == 1)); then
        words="server client master check status help key version"
    else
        case $prev in
            --log) words="none debug info warn error event" ;;
            --tls) words="0 1 2" ;;
            --lbs) words="0 1 2" ;;
            --auth) words="0 1 2" ;;
            --wire) words="auto 1.5 1.6 1.7 1.8 1.10 1.12 1.13 1.14 2.0b8 2.0" ;;
            --mode) words="0 1 2" ;;
            --quic) words="0 1" ;;
            --type) words="0 1 2 3" ;;
            --dial) words="auto" ;;
            --bind) words="auto" ;;
            --proxy) words="0 1" ;;
            --notcp) words="0 1" ;;
            --noudp) words="0 1" ;;
            --lang) words="en zh" ;;
            --crt | --key | --report) files=1 ;;
            --dns | --sni | --min | --max | --clients | --read | --rate | --slot | --udpslot | --perip | --allow | --deny | --block | --metrics | --cors | --password | --tunnel-addr | --tunnel-port | --target-addr | --target-port | --targets | --prefix | --master) ;;
            *)
                case ${COMP_WORDS[1]} in
                    server) words="--log --tls --crt --key --dns --lbs --auth --wire --max --clients --mode --quic --type --dial --read --rate --slot --udpslot --perip --allow --deny --proxy --block --notcp --noudp --metrics --password --tunnel-addr --tunnel-port --target-addr --target-port --targets --help" ;;
                    client) words="--log --tls --crt --key --dns --sni --lbs --auth --wire --min --mode --dial --bind --read --rate --slot --udpslot --perip --allow --deny --proxy --block --notcp --noudp --metrics --password --tunnel-addr --tunnel-port --target-addr --target-port --targets --help" ;;
                    master) words="--log --tls --crt --key --allow --deny --cors --tunnel-addr --tunnel-port --prefix --help" ;;
                    check) words="--json --lang --master --report --help" ;;
                    status) words="--json --lang --master --watch --help" ;;
                esac
                ;;
        esac
    fi
    COMPREPLY=()
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    fi
}

complete -F _nodepass nodepass
