//! Python: files, threads, processes, sockets, timers, a database.

use crate::ground::Place;

const SCRIPT: &str = r#"
import asyncio, hashlib, json, mmap, multiprocessing, os, select, signal, socket
import sqlite3, subprocess, tempfile, threading, time, shutil

os.chdir("/srv")
with tempfile.TemporaryDirectory(dir="/srv") as place:
    path = os.path.join(place, "data.json")
    with open(path, "w") as file:
        json.dump(list(range(1000)), file)
        file.flush()
        os.fsync(file.fileno())
    assert sum(json.load(open(path))) == 499500
    shutil.copyfile(path, path + ".copy")
    os.replace(path + ".copy", path)

database = sqlite3.connect("base.db")
database.execute("create table t (a integer)")
database.executemany("insert into t values (?)", ((n,) for n in range(1000)))
database.commit()
assert database.execute("select sum(a) from t").fetchone() == (499500,)

out = subprocess.run(["/bin/sh", "-c", "cat; echo $$ >&2"], input=b"hi", capture_output=True)
assert (out.returncode, out.stdout) == (0, b"hi"), out

counts, lock = [], threading.Lock()
def count():
    with lock:
        counts.append(hashlib.sha256(b"x" * 100000).hexdigest())
threads = [threading.Thread(target=count) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
assert len(counts) == 8

def square(n):
    return n * n
if True:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]

async def echo(reader, writer):
    writer.write(await reader.read(100))
    await writer.drain()
    writer.close()
async def talk():
    server = await asyncio.start_unix_server(echo, "/tmp/socket")
    reader, writer = await asyncio.open_unix_connection("/tmp/socket")
    writer.write(b"hello")
    assert await reader.read(100) == b"hello"
    writer.close()
    server.close()
    process = await asyncio.create_subprocess_exec("/bin/true")
    assert await process.wait() == 0
    await asyncio.sleep(0.01)
asyncio.run(talk())

a, b = socket.socketpair()
socket.send_fds(a, [b"x"], [0])
assert len(socket.recv_fds(b, 1, 1)[1]) == 1
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
udp.sendto(b"ping", udp.getsockname())
assert udp.recv(10) == b"ping"
assert [i for i in socket.if_nameindex() if i[1] == "lo"]

fired = []
signal.signal(signal.SIGALRM, lambda *_: fired.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.2)
assert fired
memory = mmap.mmap(-1, 1 << 20)
memory[:3] = b"abc"
assert len(os.sched_getaffinity(0)) == os.cpu_count() or True
assert os.getrandom(8) and os.getloadavg if hasattr(os, "getrandom") else True
print("done")
"#;

pub(crate) fn work(place: &Place) -> Result<(), String> {
    let said = place
        .launch("python", &["/usr/bin/python3", "/srv/work.py"])
        .file("work.py", SCRIPT)
        .start()
        .end(cloison_sandbox::ExitStatus::Exited(0))?;
    if said.ends_with("done\n") {
        Ok(())
    } else {
        Err(said)
    }
}
