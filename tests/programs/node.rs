//! Node.js: serves a socket that was handed in, with a worker and a child.

use nix::sys::signal::Signal;

use crate::ground::Place;

const PORT: u16 = 3000;

const SCRIPT: &str = r#"
const http = require("http"), fs = require("fs"), os = require("os"), crypto = require("crypto");
const { execFile } = require("child_process");
const { Worker } = require("worker_threads");
const worker = () => new Promise((resolve, reject) => {
    const w = new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
    w.on("message", resolve);
    w.on("error", reject);
});
const child = () => new Promise((resolve, reject) =>
    execFile("/bin/echo", ["child"], (error, out) => error ? reject(error) : resolve(out.trim())));
const kept = async () => {
    await fs.promises.writeFile("/srv/kept", crypto.randomBytes(1 << 16));
    const watcher = fs.watch("/srv");
    watcher.close();
    return (await fs.promises.readFile("/srv/kept")).length;
};
const scrypt = () => new Promise((resolve, reject) =>
    crypto.scrypt("a", "b", 16, (error, key) => error ? reject(error) : resolve(key.length)));
const server = http.createServer(async (request, response) => {
    try {
        const all = await Promise.all([worker(), child(), kept(), scrypt()]);
        response.end(`cpus ${os.cpus().length > 0} answer ${all.join(" ")}`);
    } catch (error) {
        response.end(String(error.stack));
    }
});
server.listen({ fd: 3 });
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"#;

pub(crate) fn work(place: &Place) -> Result<(), String> {
    let running = place
        .launch("node", &["/usr/bin/node", "/srv/server.js"])
        .file("server.js", SCRIPT)
        .listening(PORT)
        .start();
    running.get_eventually(PORT, "answer 42 child 65536 16")?;
    running.stop(Signal::SIGTERM).map(|_| ())
}
