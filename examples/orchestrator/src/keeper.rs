//! One server, kept running.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloison::{Host, ServerId, runtime};
use cloison_sandbox::{ExitStatus, Hierarchies, Io, Kernel, Sandbox};
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::backoff::Backoff;

/// What every start goes by.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) kernel: Kernel,
    pub(crate) hierarchies: Hierarchies,
}

/// Keeps one server running.
#[derive(Debug)]
pub(crate) struct Keeper {
    ground: Arc<Ground>,
    id: ServerId,
}

/// A server that runs as long as this is held: whoever drops the future that
/// waits for it ends it.
struct Kept {
    ground: Arc<Ground>,
    id: ServerId,
    sandbox: Sandbox,
    /// It ended, or somebody ended it.
    is_over: bool,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.is_over {
            // Nobody is left to be told. The next start removes what stays.
            let ended = self
                .ground
                .host
                .stop_server(&self.id, Signal::SIGKILL, Duration::ZERO);
            match ended {
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Keeper {
    pub(crate) fn new(ground: Arc<Ground>, id: ServerId) -> Self {
        Self { ground, id }
    }

    /// Starts it again and again, until it is told to end; then it has `limit`
    /// from `signal` on.
    pub(crate) async fn keep(
        self,
        mut end: watch::Receiver<bool>,
        signal: Signal,
        limit: Duration,
    ) {
        let mut backoff = Backoff::new();
        while !*end.borrow() {
            let start = Instant::now();
            match self.start().await {
                Ok(mut kept) => {
                    println!("{} runs, process {}", self.id, kept.sandbox.pid());
                    tokio::select! {
                        status = kept.sandbox.wait_async() => {
                            kept.is_over = true;
                            self.tell(status);
                        }
                        () = told(&mut end) => {
                            self.stop(kept, signal, limit).await;
                            return;
                        }
                    }
                }
                Err(error) => println!("{} does not start: {}", self.id, chain(&error)),
            }
            let pause = backoff.after(start.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told(&mut end) => {}
            }
        }
    }

    /// Starts it on a thread for blocking work. A future that is dropped
    /// meanwhile drops what comes of it.
    async fn start(&self) -> Result<Kept, cloison::Error> {
        let (ground, id) = (Arc::clone(&self.ground), self.id.clone());
        let started = spawn_blocking(move || {
            let on = runtime::Ground {
                kernel: &ground.kernel,
                waivers: &ground.host.settings().waive,
                hierarchies: &ground.hierarchies,
            };
            let streams = Io::null().map_err(cloison::Error::Launch)?.streams;
            // What an earlier orchestrator left is another's to wait for.
            if ground.host.life_of(&id)?.has_processes() {
                ground
                    .host
                    .stop_server(&id, Signal::SIGKILL, Duration::ZERO)?;
            }
            let sandbox = ground.host.start_server(&id, on, streams)?;
            Ok(Kept {
                ground,
                id,
                sandbox,
                is_over: false,
            })
        });
        match started.await {
            Ok(started) => started,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn tell(&self, status: Result<ExitStatus, cloison_sandbox::Error>) {
        match status {
            Ok(status) => println!("{} ended: {status:?}", self.id),
            Err(error) => println!("{} is lost: {}", self.id, chain(&error)),
        }
    }

    async fn stop(&self, kept: Kept, signal: Signal, limit: Duration) {
        let ended = spawn_blocking(move || {
            // Whole: a closure takes no more than the fields it names.
            let mut kept = kept;
            let ended = kept.ground.host.stop_server(&kept.id, signal, limit);
            kept.is_over = ended.is_ok();
            ended
        });
        match ended.await {
            Ok(Ok(how)) => println!("{} is ended: {how:?}", self.id),
            Ok(Err(error)) => println!("{} does not end: {}", self.id, chain(&error)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

/// Waits until everything is to end; so it is when nobody is left to say it.
async fn told(end: &mut watch::Receiver<bool>) {
    match end.wait_for(|end| *end).await {
        Ok(_) | Err(_) => {}
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
