//! The hostile files: what each holds, and what its error says.

/// What a file needs to be right.
pub(crate) const RIGHT: &str = "name = \"a\"\ncommand = [\"/bin/true\"]\n";

/// What follows the right lines, what the error says, and where it points.
type Line = (&'static str, &'static str, &'static str);

/// Each is one wrong thing after the two right lines.
pub(crate) const AFTER: &[Line] = &[
    // Numbers of other kinds.
    ("user = 1.5\n", "invalid type: floating point", "3:8"),
    ("user = inf\n", "invalid type: floating point", "3:8"),
    ("user = true\n", "invalid type: boolean", "3:8"),
    ("ids = 0\n", "belongs to the host", "3:7"),
    ("ids = -65536\n", "invalid value", "3:7"),
    ("ids = 65537\n", "not a multiple of 65536", "3:7"),
    ("ids = 4294901760\n", "belongs to the host", "3:7"),
    ("ids = 4294967296\n", "invalid value", "3:7"),
    ("ids = 18446744073709551615\n", "", "3:7"),
    // Numbers beyond what they may be.
    ("[limits]\nopen_files_max = 0\n", "256 to", "4:18"),
    ("[limits]\nopen_files_max = 1048577\n", "256 to", "4:18"),
    ("[limits]\nprocesses_max = 0\n", "3 to", "4:17"),
    ("[limits]\nprocesses_max = 4194305\n", "3 to", "4:17"),
    ("[limits]\nterminals_max = 1048576\n", "0 to", "4:17"),
    (
        "[limits]\nterminals_max = 4294967296\n",
        "invalid value",
        "4:17",
    ),
    ("[limits]\ncore_bytes_max = -1\n", "invalid value", "4:18"),
    ("[limits]\ncore_bytes_max = 1e3\n", "invalid type", "4:18"),
    (
        "[limits]\nopen_files_max = 99999999999999999999999\n",
        "",
        "4:18",
    ),
    ("[cgroup]\nmemory_bytes_max = 0\n", "16777216 to", "4:20"),
    (
        "[cgroup]\nmemory_bytes_max = \"1G\"\n",
        "invalid type: string",
        "4:20",
    ),
    ("[cgroup]\nswap_bytes_max = -1\n", "invalid value", "4:18"),
    ("[cgroup]\ntasks_max = 2\n", "3 to", "4:13"),
    ("[cgroup]\ncpu_weight = 0\n", "1 to", "4:14"),
    ("[cgroup]\ncpu_weight = 10001\n", "1 to", "4:14"),
    ("[cgroup]\ncpu_percent_max = 0\n", "1 to", "4:19"),
    (
        "[cgroup]\nprocessors = \"1-0\"\n",
        "a list has numbers",
        "4:14",
    ),
    (
        "[cgroup]\nprocessors = [0]\n",
        "invalid type: sequence",
        "4:14",
    ),
    (
        "[cgroup]\nprocessors = \"8000\"\n",
        "writing cpuset.cpus",
        "4:14",
    ),
    (
        "[cgroup]\nmemory_nodes = \"\\n\"\n",
        "a list has numbers",
        "4:16",
    ),
    ("[cgroup]\nio_weight = 0\n", "1 to", "4:13"),
    (
        "[[cgroup.io]]\ndevice = \"vda\"\n",
        "not an absolute path of the host",
        "4:10",
    ),
    (
        "[[cgroup.io]]\ndevice = \"/dev/null\"\n",
        "Block device required",
        "4:10",
    ),
    ("[[cgroup.io]]\n", "missing field `device`", "3:1"),
    (
        "[[cgroup.io]]\ndevice = \"/a\"\nreads_per_s_max = 4294967295\n",
        "1 to 4294967294",
        "5:19",
    ),
    (
        "[[cgroup.io]]\ndevice = \"/a\"\nreads_per_s_max = 0\n",
        "1 to",
        "5:19",
    ),
    (
        "[[cgroup.io]]\ndevice = \"/a\"\n[[cgroup.io]]\ndevice = \"/a\"\n",
        "twice",
        "6:10",
    ),
    ("[tmpfs]\ntmp_bytes_max = 0\n", "4096 to", "4:17"),
    ("[tmpfs]\nrun_bytes_max = 4095\n", "4096 to", "4:17"),
    (
        "[tmpfs]\nshm_bytes_max = 17592186044417\n",
        "4096 to",
        "4:17",
    ),
    ("[tmpfs]\nfiles_max = 0\n", "16 to", "4:13"),
    (
        "[tmpfs]\nfiles_max = 9223372036854775807\n",
        "16 to",
        "4:13",
    ),
    (
        "[tmpfs]\ntmp_bytes_max = \"1G,mode=777\"\n",
        "invalid type: string",
        "4:17",
    ),
    ("[tcp]\nbind = [65536]\n", "invalid value", "4:9"),
    ("[tcp]\nbind = [-1]\n", "invalid value", "4:9"),
    (
        "[tcp]\nconnect = [\"80\"]\n",
        "invalid type: string",
        "4:12",
    ),
    // Paths.
    ("working_directory = \"\"\n", "not an absolute path", "3:21"),
    ("working_directory = \"/a\\u0000\"\n", "NUL byte", "3:21"),
    (
        "[root.directory]\npath = \"srv\"\n",
        "not an absolute path of the host",
        "4:8",
    ),
    ("[root.directory]\npath = \"/a\\u0000b\"\n", "", "4:8"),
    ("[root.directory]\n", "missing field `path`", "3:1"),
    ("root = \"tmpfs\"\n", "unknown variant", "3:8"),
    (
        "[root.own]\npath = \"srv\"\ndisk_ids = 65536\n",
        "not an absolute path of the host",
        "4:8",
    ),
    (
        "[root.own]\npath = \"/srv\"\ndisk_ids = 65536\n[root.own.access.disk-layer]\npath = \"a\"\n",
        "not an absolute path of the host",
        "7:8",
    ),
    (
        "[root.own]\npath = \"/srv\"\ndisk_ids = 65536\n[root.own.access.memory-layer]\nbytes_max = 0\n",
        "4096 to",
        "7:13",
    ),
    (
        "[root.own]\npath = \"/srv\"\ndisk_ids = 65536\n[root.own.access.memory-layer]\nfiles_max = 0\n",
        "16 to",
        "7:13",
    ),
    // Mounts.
    (
        "[[mounts]]\nsource = \"usr\"\ntarget = \"/a\"\n",
        "not an absolute path of the host",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"../usr\"\ntarget = \"/a\"\n",
        "not an absolute path of the host",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/a\\u0000\"\ntarget = \"/a\"\n",
        "NUL byte",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/dev/null\"\ntarget = \"/a\"\n",
        "neither a directory nor a file",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/proc\"\ntarget = \"/a\"\n",
        "host's proc",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/proc/self/status\"\ntarget = \"/a\"\n",
        "host's proc",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/sys/class\"\ntarget = \"/a\"\n",
        "host's sysfs",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/dev\"\ntarget = \"/a\"\n",
        "host's devtmpfs",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/dev/pts\"\ntarget = \"/a\"\n",
        "host's devpts",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/proc/self/ns/net\"\ntarget = \"/a\"\n",
        "host's nsfs",
        "4:10",
    ),
    ("[root.directory]\npath = \"/proc\"\n", "host's proc", "4:8"),
    (
        "[root.directory]\npath = \"/\"\n",
        "the root of the host",
        "4:8",
    ),
    (
        "[[mounts]]\nsource = \"/proc/self/root\"\ntarget = \"/a\"\n",
        "the root of the host",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/nosuch,rw:/x\\n=1\"\ntarget = \"/a\"\n",
        "No such file",
        "4:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"a\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/..\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/./proc\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"//proc\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/tmp/\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/a\\u0000b\"\n",
        "without `.` and `..`",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/a\"\naccess = \"rw\"\n",
        "unknown variant `rw`",
        "6:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\n",
        "missing field `target`",
        "3:1",
    ),
    (
        "mounts = [\"/usr:/a:rw\"]\n",
        "invalid type: string",
        "3:11",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/a/b\"\n[[mounts]]\nsource = \"/usr\"\ntarget = \"/a\"\n",
        "would hide",
        "5:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/a\"\n[[mounts]]\nsource = \"/usr\"\ntarget = \"/a\"\n",
        "twice",
        "8:10",
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/usr/nosuch\"\n",
        "must be there in the root",
        "5:10",
    ),
    // Environment.
    ("[environment]\n\"\" = \"x\"\n", "which is empty", "4:6"),
    (
        "[environment]\n\"A\\nB\" = \"x\"\n",
        "a control character",
        "4:10",
    ),
    ("[environment]\nA = 1\n", "invalid type: integer", "4:5"),
    (
        "[environment]\nA = [\"x\"]\n",
        "invalid type: sequence",
        "4:5",
    ),
    (
        "[environment]\nA = \"x\"\nA = \"y\"\n",
        "duplicate key",
        "5:1",
    ),
    (
        "[environment]\nLISTEN_PID = \"1\"\n",
        "the launch itself sets",
        "4:14",
    ),
    ("environment = \"A=1\"\n", "invalid type: string", "3:15"),
    // Names of what is not there, and tables that are something else.
    ("capabilities = [\"CAP_NOSUCH\"]\n", "", "3:17"),
    (
        "capabilities = [\"CAP_SYS_RESOURCE\"]\n",
        "no sandbox may keep",
        "3:16",
    ),
    ("init = false\n", "", "3:8"),
    ("limits = 7\n", "invalid type: integer", "3:10"),
    ("[limits.open_files_max]\n", "invalid type: map", "3:1"),
    ("[limits]\n[limits]\n", "duplicate key", "4:2"),
    ("\u{202e}user = 1\n", "", "3:1"),
    ("user\u{200b} = 1\n", "", "3:5"),
    ("user = 1\u{0}\n", "", "3:"),
    ("user = 1\r user = 2\n", "", "3:"),
    ("x = \"\u{1b}[2J\"\n", "", "3:"),
];

/// Whole files in place of the right lines.
pub(crate) const WHOLE: &[(&[u8], &str, &str)] = &[
    (b"", "missing field `name`", ""),
    (b"\0\0\0\0", "", "1:"),
    (b"\xff\xfe\0n\0a", "not text in UTF-8", "1:1"),
    (
        b"name = \"\"\ncommand = [\"/a\"]\n",
        "a name has 1 to 48",
        "1:8",
    ),
    (
        b"name = \"../a\"\ncommand = [\"/a\"]\n",
        "a name has 1 to 48",
        "1:8",
    ),
    (
        b"name = \"a\\nb\"\ncommand = [\"/a\"]\n",
        "a name has 1 to 48",
        "1:8",
    ),
    (
        b"name = \"a\xe2\x80\xae\"\ncommand = [\"/a\"]\n",
        "a name has 1 to 48",
        "1:8",
    ),
    (
        b"name = 7\ncommand = [\"/a\"]\n",
        "invalid type: integer",
        "1:8",
    ),
    (
        b"name = \"a\"\ncommand = \"/bin/true\"\n",
        "invalid type: string",
        "2:11",
    ),
    (
        b"name = \"a\"\ncommand = [[\"/bin/true\"]]\n",
        "invalid type: sequence",
        "2:12",
    ),
    (
        b"name = \"a\"\ncommand = [\"\"]\n",
        "not an absolute path",
        "2:12",
    ),
    (
        b"name = \"a\"\ncommand = [\"/bin/true\", \"x\\u0000\"]\n",
        "NUL byte",
        "2:25",
    ),
    (
        b"name = \"a\"\ncommand = [\"/\\u0000\"]\n",
        "NUL byte",
        "2:12",
    ),
    (
        b"name = \"a\"\r\ncommand = [\"/bin/true\"]\r\nuser = -1\r\n",
        "invalid value",
        "3:8",
    ),
    (
        b"\xef\xbb\xbfname = \"a\"\ncommand = [\"/bin/true\"]\nuser = -1\n",
        "invalid value",
        "3:8",
    ),
    (b"{\"name\": \"a\", \"command\": [\"/bin/true\"]}", "", "1:"),
    (
        b"name.name = \"a\"\ncommand = [\"/bin/true\"]\n",
        "invalid type: map",
        "1:",
    ),
];

/// Files of a host.
pub(crate) const HOST: &[(&[u8], &str)] = &[
    (b"\xff", "not text in UTF-8"),
    (b"\0", "host.toml:1:"),
    (b"waive = 7\n", "host.toml:1:9"),
    (b"waive = [\"seccomp\"]\n", "host.toml:1:9"),
    (b"[waive]\n[waive]\n", "duplicate key"),
    (
        b"[waive]\nlandlock-scope = \"a\"\nlandlock-scope = \"b\"\n",
        "duplicate key",
    ),
    (b"[waive]\nuser-namespace = \"x\"\n", "cannot be waived"),
    (
        b"[waive]\nlandlock-scope = \"\\u001b[2J\"\n",
        "one line of text",
    ),
    (b"[waive]\n\"\" = \"x\"\n", "host.toml:2:1"),
    (b"[waive.landlock-scope]\nx = \"y\"\n", "host.toml:1:"),
    (b"name = \"a\"\n", "unknown field `name`"),
];

/// JSON of a spec without its right head, and what the error says.
pub(crate) const JSON: &[(&str, &str)] = &[
    ("\"name\":\"b\"", "duplicate field"),
    ("\"environment\":{\"A\":\"1\",\"A\":\"2\"}", "duplicate key"),
    (
        "\"environment\":{\"A\":\"1\",\"\\u0041\":\"2\"}",
        "duplicate key",
    ),
    ("\"user\":1e1", "invalid type"),
    ("\"user\":-0.0", "invalid type"),
    ("\"ids\":18446744073709551616", "invalid type"),
    ("\"ids\":65535", "not a multiple"),
    (
        "\"tmpfs\":{\"files_max\":1,\"files_max\":2}",
        "duplicate field",
    ),
    (
        "\"root\":{\"directory\":{\"path\":\"/a\"},\"shared-base\":null}",
        "",
    ),
    (
        "\"root\":{\"directory\":{\"path\":\"/a\",\"id\":1}}",
        "unknown field",
    ),
    (
        "\"mounts\":[{\"source\":\"/a\",\"target\":\"/b\",\"options\":\"rw\"}]",
        "unknown field",
    ),
    ("\"mounts\":{\"source\":\"/a\"}", "invalid type"),
    ("\"command\":[\"\\ud800\"]", "hex escape"),
    ("\"unknown\":null", "unknown field"),
    (
        "\"capabilities\":[\"CAP_SYS_ADMIN\\u0000\"]",
        "unknown variant",
    ),
];
