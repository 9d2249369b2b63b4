//! Of certificates and their files.

cases! {
    CERT_FINE "cert-fine" Fine
        "it is for {0}, and valid for {1} more days" | "适用于 {0}，还有 {1} 天有效";
        "" | "";
        "" | ""
    CERT_MEMORY "cert-memory" Note
        "tls=1: the certificate is made in memory at each start, and clients cannot verify it" | "tls=1：证书在每次启动时于内存中生成，客户端无法验证它";
        "" | "";
        "use tls=2 with certificate files where clients must know that it is this server" | "若客户端必须确认服务端身份，请使用 tls=2 和证书文件"
    CERT_FILE "cert-file" Fault
        "{0}" | "无法使用：{0}";
        "" | "";
        "{1}" | "{1}"
    CERT_EXPIRED "cert-expired" Fault
        "it expired {0} days ago" | "已过期 {0} 天";
        "clients that verify it (tls=2, port 443, browsers) refuse it" | "验证证书的客户端（tls=2、443 端口、浏览器）会拒绝它";
        "renew it; the files are read again within NP_RELOAD_INTERVAL or on SIGHUP" | "续期；程序会在 NP_RELOAD_INTERVAL 内或收到 SIGHUP 时重新读取文件"
    CERT_EARLY "cert-early" Fault
        "it is not valid for another {0} days" | "还要 {0} 天才生效";
        "its first day is in the future, or the clock of this machine is slow" | "其生效日期在未来，或本机时钟偏慢";
        "compare the clock (`date -u`) with another, or use the certificate before this one" | "用 `date -u` 与其他时钟比较，或使用之前的证书"
    CERT_ENDS "cert-ends" Warning
        "it ends in {0} days" | "将在 {0} 天后到期";
        "" | "";
        "renew it; the files are read again within NP_RELOAD_INTERVAL or on SIGHUP" | "续期；程序会在 NP_RELOAD_INTERVAL 内或收到 SIGHUP 时重新读取文件"
    CERT_NAMELESS "cert-nameless" Warning
        "it names no host, so no client can verify it" | "其中没有主机名，任何客户端都无法验证它";
        "names count only as subjectAltName; the common name (CN) is not looked at" | "只有 subjectAltName 中的名称有效，通用名（CN）不被采用";
        "make it anew with `-addext subjectAltName=DNS:server.example`" | "用 `-addext subjectAltName=DNS:server.example` 重新生成"
    CERT_AUTHORITY "cert-authority" Warning
        "it is an authority's (CA:TRUE), and clients that verify do not take that for a server's" | "这是颁发机构的证书（CA:TRUE），验证证书的客户端不接受它作为服务端证书";
        "`openssl req -x509` makes such certificates" | "`openssl req -x509` 会生成这样的证书";
        "make it with `-addext basicConstraints=critical,CA:FALSE`, or let the authority sign another" | "用 `-addext basicConstraints=critical,CA:FALSE` 生成，或由颁发机构另签一张"
    CERT_PURPOSE "cert-purpose" Warning
        "it is not made for servers" | "它不是为服务端签发的";
        "it has an extended key usage without serverAuth" | "其扩展密钥用法中没有 serverAuth";
        "make it anew with `-addext extendedKeyUsage=serverAuth`" | "用 `-addext extendedKeyUsage=serverAuth` 重新生成"
    CERT_ORDER "cert-order" Fault
        "certificate {0} of the file is not signed by the one after it" | "文件中第 {0} 张证书不是由其后一张签发的";
        "clients that verify read them in order: the server's first, then each issuer" | "验证证书的客户端按顺序读取：先是服务端证书，然后依次是各级颁发者";
        "put them in that order, for example `cat server.pem intermediate.pem > chain.pem`" | "按此顺序排列，例如 `cat server.pem intermediate.pem > chain.pem`"
    CERT_ISSUER "cert-issuer" Warning
        "its issuer is not known on this machine: {0}" | "本机不认识其颁发者：{0}";
        "an intermediate certificate is missing in the file, or it is a private authority's" | "文件中缺少中间证书，或者它来自私有颁发机构";
        "add the intermediate certificates to crt=; with a private authority, SSL_CERT_FILE=ca.pem at each client" | "把中间证书加入 crt=；若是私有颁发机构，在每个客户端设置 SSL_CERT_FILE=ca.pem"
    CERT_SELF_SIGNED "cert-self-signed" Note
        "it is signed by itself" | "它是自签名的";
        "" | "";
        "clients that verify need it in the file that SSL_CERT_FILE names" | "验证证书的客户端需要把它放入 SSL_CERT_FILE 指定的文件"
    KEY_READABLE "key-readable" Warning
        "every user of this machine can read the private key" | "本机所有用户都能读取该私钥";
        "" | "";
        "chmod 640 or 600, with the user or group that runs nodepass as its owner" | "chmod 640 或 600，并让运行 nodepass 的用户或用户组拥有它"
}
