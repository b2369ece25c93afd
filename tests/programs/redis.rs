//! Redis: what it is told it keeps, on disk too.

use nix::sys::signal::Signal;

use crate::ground::Place;

pub(crate) fn work(place: &Place) -> Result<(), String> {
    let running = place
        .launch(
            "redis",
            &[
                "/usr/bin/redis-server",
                "--bind",
                "127.0.0.1",
                "--port",
                "0",
                "--unixsocket",
                "/tmp/redis",
                "--dir",
                "/srv",
                "--appendonly",
                "yes",
                "--io-threads",
                "2",
            ],
        )
        .start();
    let cli =
        |words: &[&'static str]| [&["/usr/bin/redis-cli", "-s", "/tmp/redis"], words].concat();
    running.exec_eventually(&cli(&["ping"]))?;
    running.exec(&cli(&["set", "key", "kept"]))?;
    let kept = running.exec(&cli(&["get", "key"]))?;
    if kept != "kept\n" {
        return Err(kept);
    }
    running.exec(&cli(&[
        "eval",
        "for i = 1, 1000 do redis.call('rpush', 'list', i) end",
        "0",
    ]))?;
    running.exec(&cli(&["save"]))?;
    running.exec(&cli(&["bgsave"]))?;
    let length = running.exec(&cli(&["llen", "list"]))?;
    if length != "1000\n" {
        return Err(length);
    }
    running.stop(Signal::SIGTERM).map(|_| ())
}
