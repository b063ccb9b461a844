#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    num::NonZeroUsize,
    sync::{OnceLock, atomic::AtomicBool},
};

use p2pdb_protocol::{
    keys::PrivateKey,
    pow::Solver,
    seal::{Content, Draft},
};
use rand_core::UnwrapErr;
use tempfile::TempDir;

use super::*;

fn network() -> Network {
    Network { work_price: 64, work_puzzles: 2, ..Network::default() }
}

fn sealed(text: &str) -> SealedEntry {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    let mut rng = UnwrapErr(getrandom::SysRng);
    let key = KEY.get_or_init(|| PrivateKey::generate(&mut rng, 2048).unwrap());
    let recipients = std::slice::from_ref(key.public_key());
    let content = Content::text(text);
    let draft =
        Draft { table: key, recipients, created: 100, expires: None, content: &content, author: None };
    draft.seal(&mut rng, &network()).unwrap()
}

fn entry(sealed: &SealedEntry) -> Entry {
    let solver = Solver::new(sealed.puzzle(&network()));
    let work = solver.solve(NonZeroUsize::MIN, &AtomicBool::new(false), &|_| {}).unwrap();
    sealed.finish(&work, &network()).unwrap()
}

fn job(sealed: &SealedEntry, idempotency: Option<&Idempotency>) -> Job {
    Job {
        id: sealed.id(),
        space: "notes".to_owned(),
        app: "forum".to_owned(),
        state: JobState::Queued,
        accepted: 100,
        expires: None,
        table_key: String::new(),
        handed_out: false,
        holders: Vec::new(),
        answers: Vec::new(),
        tries: 0,
        next_try: None,
        error: None,
        settled: None,
        idempotency: idempotency.map(|idempotency| idempotency.key.clone()),
    }
}

struct Fixture {
    directory: TempDir,
    file: File,
}

impl Fixture {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let file = File::open(&directory.path().join("outbox.redb")).unwrap();
        Self { directory, file }
    }

    /// As a process that was killed would find it.
    fn reopened(self) -> Self {
        let Self { directory, file } = self;
        drop(file);
        let file = File::open(&directory.path().join("outbox.redb")).unwrap();
        Self { directory, file }
    }

    fn accept(&self, text: &str) -> SealedEntry {
        let sealed = sealed(text);
        assert!(matches!(self.file.accept(job(&sealed, None), &sealed, None).unwrap(), Accepted::New(_)));
        sealed
    }
}

#[test]
fn a_job_keeps_all_it_has_through_its_life() {
    let fixture = Fixture::new();
    let sealed = fixture.accept("first");
    let later = fixture.accept("second");
    let fixture = fixture.reopened();
    let queued = fixture.file.next_work().unwrap().unwrap();
    assert_eq!((queued.sealed.unwrap().id(), &queued.solving), (sealed.id(), &None));
    fixture.file.keep_solving(queued.number, b"state").unwrap();
    let fixture = fixture.reopened();
    assert_eq!(fixture.file.next_work().unwrap().unwrap().solving.unwrap(), b"state");
    let worked = entry(&sealed);
    fixture.file.worked(queued.number, &worked, 200).unwrap().unwrap();
    // A second time changes nothing.
    assert!(fixture.file.worked(queued.number, &worked, 300).unwrap().is_none());
    let fixture = fixture.reopened();
    assert_eq!(fixture.file.next_work().unwrap().unwrap().sealed.unwrap().id(), later.id());
    let to_send = fixture.file.to_send().unwrap();
    assert_eq!((to_send.len(), to_send[0].1.id, to_send[0].1.next_try), (1, sealed.id(), Some(200)));
    assert_eq!(fixture.file.entry(queued.number, &network()).unwrap().unwrap(), worked);
    fixture.file.hand_out(queued.number).unwrap().unwrap();
    let stored = fixture.file.tried(queued.number, |job| {
        job.state = JobState::Stored;
        job.next_try = None;
    });
    assert_eq!(stored.unwrap().unwrap().state, JobState::Stored);
    let fixture = fixture.reopened();
    assert!(fixture.file.to_send().unwrap().is_empty());
    assert!(fixture.file.entry(queued.number, &network()).unwrap().is_none(), "it is with the nodes");
    assert_eq!(fixture.file.find(&sealed.id()).unwrap().unwrap().state, JobState::Stored);
    assert_eq!(fixture.file.count_open().unwrap(), [1, 0, 0]);
}

#[test]
fn a_job_can_be_withdrawn_until_a_node_may_have_it() {
    let fixture = Fixture::new();
    let network = network();
    let queued = fixture.accept("queued");
    let (job, entry_of) = fixture.file.cancel(&queued.id(), &network, 200).unwrap().unwrap();
    assert_eq!((job.state, entry_of), (JobState::Cancelled, None));
    assert!(fixture.file.next_work().unwrap().is_none());

    let worked = fixture.accept("worked");
    let number = fixture.file.next_work().unwrap().unwrap().number;
    fixture.file.worked(number, &entry(&worked), 200).unwrap();
    let (job, entry_of) = fixture.file.cancel(&worked.id(), &network, 200).unwrap().unwrap();
    assert_eq!((job.state, entry_of.map(|entry| entry.id())), (JobState::Cancelled, Some(worked.id())));
    assert!(fixture.file.hand_out(number).unwrap().is_none(), "the sender must notice");

    let sent = fixture.accept("sent");
    let number = fixture.file.next_work().unwrap().unwrap().number;
    fixture.file.worked(number, &entry(&sent), 200).unwrap();
    fixture.file.hand_out(number).unwrap().unwrap();
    // Nobody says that he holds it, as when all refuse it for good: it can be given up, and is over then.
    let (job, entry_of) = fixture.file.cancel(&sent.id(), &network, 200).unwrap().unwrap();
    assert_eq!((job.state, job.settled, entry_of), (JobState::Abandoned, Some(200), None));
    assert!(fixture.file.to_send().unwrap().is_empty());
    assert_eq!(fixture.file.count_open().unwrap(), [0, 0, 0]);
    assert!(fixture.file.tried(number, |_| panic!("it is over")).unwrap().is_none());

    let stored = fixture.accept("stored");
    let number = fixture.file.next_work().unwrap().unwrap().number;
    fixture.file.worked(number, &entry(&stored), 200).unwrap();
    fixture.file.tried(number, |job| job.state = JobState::Stored).unwrap().unwrap();
    let (job, _) = fixture.file.cancel(&stored.id(), &network, 200).unwrap().unwrap();
    assert_eq!(job.state, JobState::Stored);
    assert!(fixture.file.cancel(&EntryId::from_bytes([0; 32]), &network, 200).unwrap().is_none());
}

#[test]
fn an_idempotency_key_is_of_one_app_and_one_body() {
    let fixture = Fixture::new();
    let idempotency = Idempotency { key: "k".to_owned(), body_hash: [1; 32] };
    let first = sealed("a");
    let accept = |sealed: &SealedEntry, app: &str, idempotency: &Idempotency| {
        let job = Job { app: app.to_owned(), ..job(sealed, Some(idempotency)) };
        fixture.file.accept(job, sealed, Some(idempotency)).unwrap()
    };
    assert!(matches!(accept(&first, "forum", &idempotency), Accepted::New(_)));
    let again = accept(&sealed("a"), "forum", &idempotency);
    assert!(matches!(again, Accepted::Before(job) if job.id == first.id()));
    let other = Idempotency { body_hash: [2; 32], ..idempotency.clone() };
    assert!(matches!(accept(&sealed("b"), "forum", &other), Accepted::KeyReused));
    assert!(matches!(accept(&sealed("b"), "wiki", &other), Accepted::New(_)));
    let before = fixture.file.before("forum", &idempotency).unwrap();
    assert!(matches!(before, Some(Accepted::Before(job)) if job.id == first.id()));
    assert!(fixture.file.before("chat", &idempotency).unwrap().is_none());
}

#[test]
fn jobs_are_listed_newest_first_in_pages() {
    let fixture = Fixture::new();
    let ids: Vec<EntryId> = ["a", "b", "c"].map(|text| fixture.accept(text).id()).to_vec();
    let list = |before: Option<&EntryId>, limit| -> Vec<EntryId> {
        fixture.file.list(before, limit, |_| true).unwrap().iter().map(|job| job.id).collect()
    };
    assert_eq!(list(None, 2), [ids[2], ids[1]]);
    assert_eq!(list(Some(&ids[1]), 2), [ids[0]]);
    assert!(list(Some(&EntryId::from_bytes([0; 32])), 2).is_empty());
    assert!(fixture.file.list(None, 9, |job| job.id == ids[1]).unwrap().len() == 1);
}

#[test]
fn a_second_daemon_is_told_that_there_is_one() {
    let fixture = Fixture::new();
    let second = File::open(&fixture.directory.path().join("outbox.redb"));
    assert!(matches!(second, Err(OutboxError::InUse)), "{second:?}");
}

#[test]
fn a_damaged_row_holds_up_no_other_job() {
    let fixture = Fixture::new();
    let [damaged, good] = ["damaged", "good"].map(|text| fixture.accept(text));
    let overwrite = |table, number: u64| {
        let write = |txn: &WriteTransaction| {
            txn.open_table(table)?.insert(number, b"{".as_slice())?;
            Ok(())
        };
        fixture.file.write(write).unwrap();
    };
    // The sealed entry of the first: whoever mines is told, and settles it.
    overwrite(SEALED, 1);
    let queued = fixture.file.next_work().unwrap().unwrap();
    assert!(queued.number == 1 && queued.sealed.is_err());
    let failed = fixture.file.fail(1, "damaged".to_owned(), 200).unwrap().unwrap();
    assert_eq!((failed.id, failed.state, failed.settled), (damaged.id(), JobState::Failed, Some(200)));
    let queued = fixture.file.next_work().unwrap().unwrap();
    assert_eq!(queued.sealed.unwrap().id(), good.id());
    // The job itself: it is passed over, by whoever mines, sends, lists and counts.
    let unreadable = fixture.accept("unreadable");
    let last = fixture.accept("last");
    overwrite(JOBS, 2);
    let queued = fixture.file.next_work().unwrap().unwrap();
    assert_eq!(queued.sealed.unwrap().id(), unreadable.id());
    fixture.file.worked(3, &entry(&unreadable), 200).unwrap().unwrap();
    overwrite(JOBS, 3);
    fixture.file.worked(4, &entry(&last), 200).unwrap().unwrap();
    let fixture = fixture.reopened();
    let ids: Vec<EntryId> = fixture.file.to_send().unwrap().iter().map(|(_, job)| job.id).collect();
    assert_eq!(ids, [last.id()]);
    assert_eq!(fixture.file.count_open().unwrap(), [0, 1, 0]);
    assert_eq!(fixture.file.list(None, 9, |_| true).unwrap().len(), 2, "the last and the failed one");
}
