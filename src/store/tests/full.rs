//! A disk that is full in the middle of every operation, by the word of the kernel: no file may grow beyond a limit of the
//! process, and a write there fails halfway as it does on a full disk.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::{
    crash::{FIRST, PATH, acknowledge, is_consistent, request, small, variable},
    *,
};

/// Says that an operation failed as it should; anything else ends the child.
fn is_full<T>(operation: &str, result: Result<T, StoreError>) -> bool {
    let Err(error) = result else { return false };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{operation}: {error:?}");
    println!("full {operation}");
    true
}

/// Does everything there is to do, again and again, until all of it fails.
#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn child() {
    let first: u64 = variable(FIRST).parse().unwrap();
    let clock = Clock::manual(START + first);
    let store = match small(Path::new(&variable(PATH)), &clock) {
        Ok(store) => store,
        result => return assert!(is_full("open", result)),
    };
    for number in first.. {
        let committed = store.commit(request(number).iter().map(Draft::new_entry).collect()).await;
        let ended = is_full("commit", committed);
        if !ended {
            acknowledge(number);
            clock.set(START + number);
        }
        // After a put that failed these, too, so that each of them meets the end of the disk.
        let is_due = |of: u64| ended || number % 8 == of;
        if is_due(3) {
            is_full("sweep", store.sweep().await);
        }
        if is_due(5) {
            is_full("merge", store.merge().await);
        }
        if is_due(7) {
            is_full("compact", store.compact().await);
        }
        if ended {
            // What is there is served on.
            if number > 0 {
                is_consistent(&store, 0..=number - 1, 1).await;
            }
            break;
        }
    }
    is_full("close", store.close().await);
}

#[tokio::test]
async fn a_disk_full_at_any_point_of_any_operation_costs_nothing_that_was_acknowledged() {
    let seed: u64 = std::env::var("P2PDB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("P2PDB_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut first, mut failed) = (0, BTreeSet::new());
    for round in 0..24u64 {
        // Of the index file any part, and of the segments, which are smaller, some.
        let random = u64::from(Sha256::digest([seed.to_be_bytes(), round.to_be_bytes()].concat())[0]);
        let length = std::fs::metadata(&path).map_or(1 << 20, |metadata| metadata.len());
        let limit = length * (random + 1) / 256;
        let mut child = Command::new("sh")
            // In units of 512 bytes. Who ignores the signal gets an error.
            .args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &(limit / 512).to_string()])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::full::child", "--ignored", "--nocapture"])
            .env(PATH, &path)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(number) = line.strip_prefix("acknowledged ") {
                first = number.parse::<u64>().unwrap() + 1;
            } else if let Some(operation) = line.strip_prefix("full ") {
                failed.insert(operation.to_owned());
            }
        }
        let status = child.wait().unwrap();
        assert!(status.success(), "round {round}, {limit} bytes a file: {status}");

        // Before anything is merged, which drops what is due meanwhile; then after that.
        crate::store::fault::arm(&path, "merge");
        let store = small(&path, &Clock::manual(START + first)).unwrap();
        if first > 0 {
            is_consistent(&store, 0..=first - 1, 1).await;
        }
        crate::store::fault::disarm(&path);
        if first > 0 {
            verified(&store).await;
            is_consistent(&store, 0..=first - 1, 1).await;
        }
        store.close().await.unwrap();
    }
    println!("{first} requests; failed: {failed:?}");
    for operation in ["commit", "sweep", "merge", "compact"] {
        assert!(failed.contains(operation), "{operation} never failed: {failed:?}");
    }
}
