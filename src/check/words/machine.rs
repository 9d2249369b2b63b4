//! Of what the machine gives, and of the master's folder.

cases! {
    ROOM_FINE "room-fine" Fine
        "room for {0}: {1} open files, {2} of memory" | "可满足 {0}：可打开 {1} 个文件，内存 {2}";
        "" | "";
        "" | ""
    ROOM_SMALL "room-small" Warning
        "lowered to what fits here: {0}; {1} open files, {2} of memory" | "已按本机资源调低：{0}；可打开 {1} 个文件，内存 {2}";
        "files and memory do not suffice for what the URL asks for, or its defaults" | "文件数和内存不足以满足 URL（或默认值）的要求";
        "raise the limit of open files (ulimit -n, LimitNOFILE=) or of memory (MemoryMax=), or lower min, max and slot" | "提高打开文件数（ulimit -n、LimitNOFILE=）或内存（MemoryMax=）上限，或调低 min、max 和 slot"
    FILES_FEW "files-few" Warning
        "slot={0} needs {1} open files, and {2} are allowed" | "slot={0} 需要打开 {1} 个文件，而上限为 {2}";
        "a user and its target take one each; users beyond that are refused" | "每个用户及其目标各占一个；超出的用户会被拒绝";
        "raise the limit of open files (ulimit -n, LimitNOFILE=), or lower slot" | "提高打开文件数上限（ulimit -n、LimitNOFILE=），或调低 slot"
    SPLICE_MISSING "splice-missing" Warning
        "the kernel gives no pipes: plain TCP is copied through memory" | "内核不提供管道：明文 TCP 需经内存复制";
        "{0}" | "{0}";
        "raise fs.pipe-user-pages-soft, or the limit of open files" | "提高 fs.pipe-user-pages-soft，或打开文件数上限"
    BUFFER_SMALL "buffer-small" Warning
        "a UDP socket gets {0} of {1} bytes of receive buffer" | "UDP 套接字只能得到 {1} 字节接收缓冲区中的 {0} 字节";
        "net.core.rmem_max is lower, and this user has no right to go beyond: bursts of datagrams are lost" | "net.core.rmem_max 较小，且当前用户无权超过它：突发的数据报会丢失";
        "sysctl -w net.core.rmem_max={1}" | "sysctl -w net.core.rmem_max={1}"
    CONGESTION "congestion" Note
        "TCP uses {0} for congestion control" | "TCP 拥塞控制使用 {0}";
        "" | "";
        "bbr is faster on paths that lose packets: sysctl -w net.ipv4.tcp_congestion_control=bbr" | "在有丢包的路径上 bbr 更快：sysctl -w net.ipv4.tcp_congestion_control=bbr"

    STATE_FINE "state-fine" Fine
        "the folder is this user's, and holds {0} instances" | "文件夹可写，其中有 {0} 个实例";
        "" | "";
        "" | ""
    STATE_NEW "state-new" Note
        "the folder is not there: the master makes it" | "文件夹不存在：master 会创建它";
        "" | "";
        "" | ""
    STATE_DENIED "state-denied" Fault
        "this user cannot write there: instances are lost when the master ends" | "当前用户无法写入：master 结束后实例会丢失";
        "{0}" | "{0}";
        "give the folder to the user that runs the master (chown), or name another with NP_STATE_DIR" | "把文件夹交给运行 master 的用户（chown），或用 NP_STATE_DIR 指定另一个"
    STATE_BUSY "state-busy" Note
        "a master uses the folder already: {0}" | "已有 master 在使用此文件夹：{0}";
        "" | "";
        "a second one needs a folder of its own: NP_STATE_DIR" | "第二个 master 需要自己的文件夹：NP_STATE_DIR"
    STATE_OPEN "state-open" Warning
        "every user of this machine can read the state, and the keys in it" | "本机所有用户都能读取状态文件及其中的密钥";
        "" | "";
        "chmod 700 for the folder, chmod 600 for nodepass.gob" | "文件夹 chmod 700，nodepass.gob chmod 600"
    STATE_BAD "state-bad" Fault
        "the state cannot be used" | "状态文件无法使用";
        "{0}" | "{0}";
        "the master keeps the file aside at its next start and loads nodepass.gob.backup" | "master 下次启动时会把该文件另存，并读取 nodepass.gob.backup"
    STATE_KEPT "state-kept" Warning
        "an unusable state was kept aside here: {0}" | "这里保留了一个无法使用的状态文件：{0}";
        "a power cut, a full disk or another program damaged it" | "断电、磁盘写满或其他程序损坏了它";
        "see whether all instances are there, then remove the file" | "确认所有实例都在之后，删除该文件"

    REPORT_WRITTEN "report-written" Note
        "the report is written; read it before you send it" | "报告已写好，发送前请先阅读";
        "" | "";
        "" | ""
    REPORT_FAILED "report-failed" Fault
        "the report cannot be written" | "无法写入报告";
        "{0}" | "{0}";
        "name another file with --report" | "用 --report 指定其他文件"
}
