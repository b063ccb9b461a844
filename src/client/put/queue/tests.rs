#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use p2pdb_protocol::codec::bounded::Blob;

use super::*;

/// A parcel of so many entries of so many bytes, of the table with this key.
fn parcel(entries: usize, bytes: usize, key: u8) -> Parcel {
    let entry = Blob::try_from(vec![0; bytes]).unwrap();
    Parcel { entries: vec![entry; entries], key: Blob::try_from(vec![key; 300]).unwrap() }
}

/// A queue of parcels, with the receivers of their answers.
fn queue(parcels: Vec<Parcel>) -> (Queue, Vec<oneshot::Receiver<Answer>>) {
    let (mut queue, mut answers) = (Queue::default(), Vec::new());
    for parcel in parcels {
        let (answer, answered) = oneshot::channel();
        queue.waiting.push_back(Waiting { parcel, answer });
        answers.push(answered);
    }
    (queue, answers)
}

/// The numbers of parcels, entries and keys in each request until nothing is left.
fn requests(queue: &mut Queue) -> Vec<(usize, usize, usize)> {
    let batches = std::iter::repeat_with(|| queue.take()).take_while(|batch| !batch.lots.is_empty());
    batches.map(|batch| (batch.lots.len(), batch.entries.len(), batch.keys.len())).collect()
}

#[test]
fn what_waits_goes_out_together_as_far_as_a_request_holds_it() {
    let (mut of_one_table, _answers) = queue((0..300).map(|_| parcel(1, 100, 0)).collect());
    assert_eq!(requests(&mut of_one_table), [(256, 256, 1), (44, 44, 1)]);
    let (mut of_many_tables, _answers) = queue((0..20).map(|key| parcel(2, 100, key)).collect());
    assert_eq!(requests(&mut of_many_tables), [(16, 32, 16), (4, 8, 4)]);
    let (mut large, _answers) = queue((0..5).map(|_| parcel(6, 64 << 10, 0)).collect());
    assert_eq!(requests(&mut large), [(2, 12, 1), (2, 12, 1), (1, 6, 1)]);
    // One parcel too large for any request is refused by itself.
    let (mut too_large, _answers) = queue(vec![parcel(300, 10, 0), parcel(1, 10, 0)]);
    assert_eq!(requests(&mut too_large), [(1, 300, 1), (1, 1, 1)]);
}

#[test]
fn a_request_of_many_parcels_is_no_longer_than_permitted() {
    let (mut queue, _answers) = queue((0..300).map(|number| parcel(1, 16_000, (number % 9) as u8)).collect());
    let batch = queue.take();
    assert!(batch.entries.len() > 60, "{}", batch.entries.len());
    let entries = List::try_from(batch.entries).unwrap();
    let request = PutRequest { entries, keys: List::try_from(batch.keys).unwrap() };
    let encoded = p2pdb_protocol::codec::lenient::to_vec(&request).unwrap();
    assert!(encoded.len() <= PUT_REQUEST_BYTES, "{}", encoded.len());
}

#[test]
fn what_nobody_waits_for_any_more_is_not_put() {
    let (mut queue, mut answers) = queue(vec![parcel(1, 10, 0), parcel(2, 10, 1), parcel(3, 10, 2)]);
    answers.remove(1);
    assert_eq!(requests(&mut queue), [(2, 4, 2)]);
}

#[test]
fn everybody_gets_the_outcomes_of_his_own() {
    let (mut queue, mut answers) = queue(vec![parcel(1, 10, 0), parcel(2, 10, 0)]);
    share_out(queue.take().lots, Ok(vec![0, 1, 2]));
    let answer =
        |answers: &mut Vec<oneshot::Receiver<Answer>>| answers.remove(0).try_recv().unwrap().unwrap();
    assert_eq!(answer(&mut answers), [Outcome::from_code(0)]);
    assert_eq!(answer(&mut answers), [Outcome::from_code(1), Outcome::from_code(2)]);
}

#[test]
fn a_response_for_other_entries_is_no_answer_for_anybody() {
    for outcomes in [vec![0], vec![0; 4]] {
        let (mut queue, answers) = queue(vec![parcel(1, 10, 0), parcel(2, 10, 0)]);
        share_out(queue.take().lots, Ok(outcomes));
        for mut answer in answers {
            let error = answer.try_recv().unwrap().unwrap_err();
            assert!(error.to_string().contains("outcomes, expected 3"), "{error}");
        }
    }
}
