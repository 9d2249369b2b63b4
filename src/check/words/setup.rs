//! Of the configuration, of ports and of names.

cases! {
    URL_UNUSABLE "url-unusable" Fault
        "{0}" | "无法使用：{0}";
        "" | "";
        "{1}" | "{1}"
    CONFIG_FINE "config-fine" Fine
        "it is understood, and these values are in force" | "配置有效，以上为实际生效的取值";
        "" | "";
        "" | ""
    CONFIG_REMARK "config-remark" Warning
        "{0}" | "{0}";
        "" | "";
        "correct it or leave it out: \"nodepass help\" lists all names and values" | "改正或删去它：“nodepass help” 列出所有名称和取值"
    VARIABLE_UNKNOWN "variable-unknown" Warning
        "{0}" | "{0}";
        "no variable of that name is read: it has no effect" | "程序不读取这个名称的环境变量，它不起作用";
        "correct its name: \"nodepass help\" lists all variables" | "改正名称：“nodepass help” 列出所有环境变量"
    KEY_MISSING "key-missing" Warning
        "there is no key: every client that knows the port can connect" | "没有密钥：知道端口的任何客户端都能连接";
        "without a key both sides use one that is made from the port" | "没有密钥时，两端使用由端口号生成的密钥";
        "put what `nodepass key` prints before the @ of both URLs: server://KEY@host:port/..." | "把 `nodepass key` 生成的密钥写入两端 URL 的 @ 之前：server://KEY@host:port/..."
    KEY_SHORT "key-short" Warning
        "a key of {0} characters can be found by trying" | "长度为 {0} 的密钥可以被逐一试出";
        "" | "";
        "take {1} random characters or more at both ends: `nodepass key` prints them" | "两端使用至少 {1} 个随机字符：`nodepass key` 会生成"
    TUNNEL_PLAIN "tunnel-plain" Warning
        "the tunnel is not encrypted" | "隧道没有加密";
        "tls=0: all on the path between client and server can read and change what users say" | "tls=0：客户端与服务端之间路径上的任何人都能读取和篡改数据";
        "set tls=1 at the server (a certificate in memory), or tls=2 with a certificate that clients verify" | "在服务端设置 tls=1（内存证书），或 tls=2 并使用客户端可验证的证书"
    TRANSPORT_MISSING "transport-missing" Fault
        "type={0} ({1}) is not part of this build" | "此构建不包含 type={0}（{1}）";
        "" | "";
        "use a full build, or type=0" | "使用完整构建，或改用 type=0"
    MASTER_MISSING "master-missing" Fault
        "the master is not part of this build" | "此构建不包含 master";
        "" | "";
        "use a full build" | "使用完整构建"
    WEB_PORT_UNVERIFIED "web-port-unverified" Fault
        "no client gets in at port 443 with this certificate" | "使用此证书时，443 端口不接受任何客户端";
        "at port 443 clients verify the server's certificate, and tls={0} has none that they know" | "在 443 端口，客户端会验证服务端证书，而 tls={0} 没有它们认识的证书";
        "set tls=2 with crt= and key= of a certificate for the server's name, or take another port" | "设置 tls=2，用 crt= 和 key= 指定该服务端名称的证书，或换用其他端口"

    PORT_FREE "port-free" Fine
        "the port is free" | "端口空闲";
        "" | "";
        "" | ""
    PORT_TAKEN "port-taken" Fault
        "the port is taken" | "端口已被占用";
        "{0} has it" | "占用者：{0}";
        "stop that program, or use another port" | "停止该程序，或换用其他端口"
    PORT_HELD "port-held" Fault
        "the port is taken" | "端口已被占用";
        "by which program cannot be seen: it belongs to another user or another container" | "看不到是哪个程序：它属于其他用户或其他容器";
        "find it with `ss -lntup` as root, or use another port" | "以 root 身份运行 `ss -lntup` 查找，或换用其他端口"
    PORT_OURS "port-ours" Note
        "this set-up runs already: {0} listens here" | "此配置已在运行：{0} 正在此监听";
        "" | "";
        "" | ""
    PORT_RIGHT "port-right" Fault
        "this user may not listen at a port below 1024" | "当前用户不能监听 1024 以下的端口";
        "" | "";
        "run it as root, give it CAP_NET_BIND_SERVICE (AmbientCapabilities= in a unit), or use a port from 1024 on" | "以 root 运行，授予 CAP_NET_BIND_SERVICE（单元文件中的 AmbientCapabilities=），或使用 1024 及以上的端口"
    PORT_ADDRESS "port-address" Fault
        "it is not an address of this machine" | "这不是本机的地址";
        "" | "";
        "use one that `ip address` shows, or leave the host out to listen at all of them" | "使用 `ip address` 显示的地址，或省略主机名以监听所有地址"
    PORT_FAILED "port-failed" Fault
        "it cannot be listened at" | "无法在此监听";
        "{0}" | "{0}";
        "use another address or port" | "换用其他地址或端口"
    PORT_EPHEMERAL "port-ephemeral" Note
        "connections of other programs may take this port before it is listened at" | "其他程序的连接可能在监听之前占用此端口";
        "the system gives ports from {0} to {1} to outgoing connections" | "系统把 {0} 到 {1} 的端口分配给出站连接";
        "use a port below {0}, or name it in net.ipv4.ip_local_reserved_ports" | "使用低于 {0} 的端口，或将其列入 net.ipv4.ip_local_reserved_ports"
    MODE_FLIPS "mode-flips" Warning
        "mode=0 makes this the target, and users come in at the client" | "mode=0 会把它当作目标，用户将从客户端一侧进入";
        "it cannot be listened at: {0}" | "无法在此监听：{0}";
        "set mode=1 if users are to come in here, mode=2 if it is the target" | "若用户应从这里进入，设置 mode=1；若它是目标，设置 mode=2"
    MODE_FORWARDS "mode-forwards" Note
        "mode=0 makes this client forward alone: it can listen here" | "mode=0 会使此客户端单端转发：这里可以监听";
        "" | "";
        "set mode=2 if a server is to be called, mode=1 if not" | "若应连接服务端，设置 mode=2；否则设置 mode=1"
    MODE_CALLS "mode-calls" Note
        "mode=0 makes this client call a server: it cannot listen here" | "mode=0 会使此客户端连接服务端：这里无法监听";
        "{0}" | "{0}";
        "set mode=1 if it is to forward alone, mode=2 if not" | "若应单端转发，设置 mode=1；否则设置 mode=2"

    NAME_FINE "name-fine" Fine
        "it has these addresses, found in {1} ms: {0}" | "解析用时 {1} 毫秒，地址为：{0}";
        "" | "";
        "" | ""
    NAME_SLOW "name-slow" Warning
        "it took {1} ms to find its addresses: {0}" | "解析用了 {1} 毫秒，地址为：{0}";
        "a resolver of this machine does not answer, and another is asked after a pause" | "本机的某个 DNS 服务器没有响应，稍后才询问另一个";
        "look at /etc/resolv.conf, and take out what does not answer" | "检查 /etc/resolv.conf，删去没有响应的服务器"
    NAME_FAILED "name-failed" Fault
        "it has no address" | "没有地址";
        "{0}" | "{0}";
        "check its spelling and this machine's DNS (/etc/resolv.conf), or write the address instead" | "检查拼写和本机 DNS（/etc/resolv.conf），或直接写地址"
}
