//! PostgreSQL: a cluster is made, started, asked through `exec`, stopped.

use nix::sys::signal::Signal;

use crate::ground::Place;

const START: &str = r#"
set -e
programs=/usr/lib/postgresql/15/bin
$programs/initdb -D /srv/data -U app -A trust --locale=C -E UTF8
exec $programs/postgres -D /srv/data -k /tmp -c listen_addresses= -c shared_buffers=16MB
"#;

const QUERY: &str = "create table t (a int primary key, b text);
insert into t select n, repeat('x', n % 50) from generate_series(1, 5000) n;
create index on t (b); vacuum analyze t; checkpoint;
set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set min_parallel_table_scan_size = 0;
select 'sum ' || sum(a) from t;";

pub(crate) fn work(place: &Place) -> Result<(), String> {
    let running = place
        .launch("postgresql", &["/bin/sh", "-c", START])
        .start();
    let ask = |query| {
        let psql = "/usr/lib/postgresql/15/bin/psql";
        [
            psql, "-h", "/tmp", "-U", "app", "-d", "postgres", "-Atc", query,
        ]
    };
    running.exec_eventually(&ask("select 1"))?;
    let mut answer = String::new();
    for query in QUERY.split(';').filter(|query| !query.trim().is_empty()) {
        answer = running.exec(&ask(query))?;
    }
    if answer != "sum 12502500\n" {
        return Err(answer);
    }
    // A fast shutdown.
    running.stop(Signal::SIGINT).map(|_| ())
}
