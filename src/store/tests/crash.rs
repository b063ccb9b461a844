//! A process that is killed while it writes loses nothing that it acknowledged.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

const PATH: &str = "P2PDB_TEST_STORE";

/// The process that is killed: puts for ever and prints the number of each acknowledged request.
#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn child() {
    let path = std::env::var_os(PATH).expect("only the test below runs this");
    let store = open(Path::new(&path), StoreOptions::default(), &Clock::manual(START)).unwrap();
    for request in 0.. {
        store.commit(series(request * 20, 20)).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {request}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_reopens_at_once_with_everything_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    for round in 1..=3u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::child", "--ignored", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let acknowledged = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .filter_map(|line| line.unwrap().strip_prefix("acknowledged ")?.parse::<u64>().ok())
            .find(|request| *request >= 40 * round)
            .expect("the child writes until it is killed");
        // It is in the middle of a later request now.
        child.kill().unwrap();
        child.wait().unwrap();

        let begun = Instant::now();
        let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "opening took {took:?}");
        let ids = series(0, (acknowledged + 1) * 20).iter().map(|new| new.entry.id()).collect();
        let known = store.known(table(0), ids).await.unwrap();
        assert!(known.iter().all(|presence| *presence == Presence::Stored));
        verified(&store).await;
        store.close().await.unwrap();
    }
}
