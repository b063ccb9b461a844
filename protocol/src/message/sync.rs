//! Compares sets of ids by their roots and sketches (SPEC 8.7).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::{
    codec::bounded::{Blob, List},
    id::TableId,
    limits,
    message::Operation,
    reconcile::sketch::{GROUP_SYNDROMES, MAX_LEVEL, Root, SUMMARY_SYNDROMES, Summary, Tow},
};

/// The sync operation.
#[derive(Debug, Clone, Copy)]
pub struct Sync;

impl Operation for Sync {
    const NAME: &'static str = "sync";
    const MAX_REQUEST: usize = limits::SYNC_REQUEST_BYTES;
    const MAX_RESPONSE: usize = limits::SYNC_RESPONSE_BYTES;
    type Request = SyncRequest;
    type Response = SyncResponse;
}

/// The roots that the requester holds possible for the responder's set: its own, and the one it expects.
pub type Candidates = List<Root, { limits::MAX_SYNC_CANDIDATES }>;

/// The question as it stands on the wire; [`SyncRequest::question`] says which of the three it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Only entries created at this time or later, in unix seconds.
    #[serde(default)]
    pub since: u64,
    /// Asks whether one of these is the digest of all common tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Candidates>,
    /// Asks of each of these tables whether one of the roots is its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<List<(TableId, Candidates), { limits::MAX_TABLES }>>,
    /// Asks for syndromes of groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupsRequest>,
}

/// What a [`SyncRequest`] asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether one of these is the digest of all common tables.
    All(Vec<Root>),
    /// Of each table whether one of the roots is its root.
    Tables(Vec<(TableId, Vec<Root>)>),
    /// Syndromes of groups.
    Groups(Asked),
}

impl SyncRequest {
    /// What is asked; none if it is not one of the three questions, or beyond its limits.
    #[must_use]
    pub fn question(self) -> Option<Question> {
        match (self.all, self.tables, self.groups) {
            (Some(all), None, None) => Some(Question::All(all.into_inner())),
            (None, Some(tables), None) => {
                let tables = tables.into_iter().map(|(table, roots)| (table, roots.into_inner()));
                Some(Question::Tables(tables.collect()))
            }
            (None, None, Some(groups)) => groups.asked().map(Question::Groups),
            _ => None,
        }
    }
}

/// Asks for syndromes of groups of one table; on the wire the array `[table, level, which, from, to]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "GroupsArray", into = "GroupsArray")]
pub struct GroupsRequest {
    /// The table.
    pub table: TableId,
    /// The groups are those of the leading `level` bits.
    pub level: u64,
    /// One bit for each group, the first being the most significant of the first byte; none: all groups.
    pub which: Option<Blob<{ (1 << MAX_LEVEL) / 8 }>>,
    /// The first syndrome asked for, counted from 0.
    pub from: u64,
    /// The first syndrome not asked for.
    pub to: u64,
}

type GroupsArray = (TableId, u64, Option<Blob<{ (1 << MAX_LEVEL) / 8 }>>, u64, u64);

impl From<GroupsArray> for GroupsRequest {
    fn from((table, level, which, from, to): GroupsArray) -> Self {
        Self { table, level, which, from, to }
    }
}

impl From<GroupsRequest> for GroupsArray {
    fn from(request: GroupsRequest) -> Self {
        (request.table, request.level, request.which, request.from, request.to)
    }
}

/// Groups of one table, and a range of their syndromes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The table.
    pub table: TableId,
    /// The groups are those of the leading `level` bits; at most [`MAX_LEVEL`].
    pub level: u8,
    /// The groups, ascending, at least one.
    pub groups: Vec<u16>,
    /// The syndromes, counted from 0; at least one, and at most [`GROUP_SYNDROMES`].
    pub syndromes: std::ops::Range<usize>,
}

impl GroupsRequest {
    /// The request for these groups, or for all if there are as many as the level has.
    #[must_use]
    pub fn new(asked: &Asked) -> Self {
        let mut bits = vec![0_u8; (1_usize << asked.level.min(MAX_LEVEL)).div_ceil(8)];
        for group in &asked.groups {
            if let Some(byte) = bits.get_mut(usize::from(*group / 8)) {
                *byte |= 0x80 >> (group % 8);
            }
        }
        let all = asked.groups.len() == 1 << asked.level.min(MAX_LEVEL);
        Self {
            table: asked.table,
            level: asked.level.into(),
            which: if all { None } else { Blob::try_from(bits).ok() },
            from: asked.syndromes.start as u64,
            to: asked.syndromes.end as u64,
        }
    }

    fn asked(self) -> Option<Asked> {
        let level = u8::try_from(self.level).ok().filter(|level| *level <= MAX_LEVEL)?;
        let count = 1_usize << level;
        let groups = match self.which {
            None => (0..count as u16).collect(),
            Some(bits) if bits.len() == count.div_ceil(8) => {
                let bytes = bits.iter().enumerate();
                let set = bytes.flat_map(|(index, byte)| {
                    (0..8).filter(move |bit| byte & (0x80 >> bit) != 0).map(move |bit| 8 * index as u16 + bit)
                });
                let groups: Vec<u16> = set.collect();
                // Of a level of fewer than 8 groups, the other bits of the byte stand for nothing.
                groups.last().is_some_and(|last| usize::from(*last) < count).then_some(groups)?
            }
            Some(_) => return None,
        };
        let (from, to) = (usize::try_from(self.from).ok()?, usize::try_from(self.to).ok()?);
        (from < to && to <= GROUP_SYNDROMES).then_some(Asked {
            table: self.table,
            level,
            groups,
            syndromes: from..to,
        })
    }
}

/// The answer to any of the questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncResponse {
    /// Start of the scope, in unix seconds: later than asked for if the node keeps less.
    pub since: u64,
    /// For each table asked for, or for all together, the number of the first candidate that is right, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<List<Option<u64>, { limits::MAX_TABLES }>>,
    /// What the tables are of which no candidate is right, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differing: Option<List<Claim, { limits::MAX_TABLES }>>,
    /// The syndromes asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
}

/// What a node says of its ids of one table; on the wire the array `[n, root, tow, syndromes]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ClaimArray", into = "ClaimArray")]
pub struct Claim {
    /// Their number.
    pub n: u64,
    /// Their root.
    pub root: Root,
    /// Their estimator.
    pub tow: Tow,
    /// Their first syndromes.
    pub syndromes: [u64; SUMMARY_SYNDROMES],
}

type ClaimArray = (u64, Root, ByteArray<{ Tow::BYTES }>, ByteArray<{ 8 * SUMMARY_SYNDROMES }>);

impl From<ClaimArray> for Claim {
    fn from((n, root, tow, syndromes): ClaimArray) -> Self {
        let mut words = syndromes.as_chunks().0.iter();
        let mut next = || words.next().map_or(0, |word| u64::from_be_bytes(*word));
        let syndromes = std::array::from_fn(|_| next());
        Self { n, root, tow: Tow::from_bytes(&tow), syndromes }
    }
}

impl From<Claim> for ClaimArray {
    fn from(claim: Claim) -> Self {
        let mut syndromes = [0; 8 * SUMMARY_SYNDROMES];
        let words = syndromes.as_chunks_mut().0.iter_mut();
        words.zip(claim.syndromes).for_each(|(word, syndrome)| *word = syndrome.to_be_bytes());
        (claim.n, claim.root, ByteArray::new(claim.tow.to_bytes()), ByteArray::new(syndromes))
    }
}

impl From<&Summary> for Claim {
    fn from(summary: &Summary) -> Self {
        Self {
            n: summary.len(),
            root: summary.root(),
            tow: summary.tow().clone(),
            syndromes: *summary.syndromes(),
        }
    }
}

/// Syndromes of groups, and the table they are of; on the wire the array `[n, root, syndromes]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "GroupsAnswer", into = "GroupsAnswer")]
pub struct Groups {
    /// The number of ids of the whole table, when the syndromes were taken.
    pub n: u64,
    /// Their root.
    pub root: Root,
    /// The syndromes asked for of the first group, then those of the next one, and so on; 8 bytes each, big-endian.
    pub syndromes: Blob<{ limits::MAX_SYNC_SYNDROME_BYTES }>,
}

type GroupsAnswer = (u64, Root, Blob<{ limits::MAX_SYNC_SYNDROME_BYTES }>);

impl From<GroupsAnswer> for Groups {
    fn from((n, root, syndromes): GroupsAnswer) -> Self {
        Self { n, root, syndromes }
    }
}

impl From<Groups> for GroupsAnswer {
    fn from(groups: Groups) -> Self {
        (groups.n, groups.root, groups.syndromes)
    }
}

/// Numbers of 8 bytes each, big-endian, from a byte string; none if its length is no multiple of 8.
#[must_use]
pub fn words(bytes: &[u8]) -> Option<Vec<u64>> {
    let (words, rest) = bytes.as_chunks();
    rest.is_empty().then(|| words.iter().map(|word| u64::from_be_bytes(*word)).collect())
}

/// The byte string of numbers, as [`words`] reads it.
#[must_use]
pub fn word_bytes(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::codec::lenient;

    fn asked(level: u8, groups: Vec<u16>, syndromes: std::ops::Range<usize>) -> Asked {
        Asked { table: TableId::from_bytes([1; 32]), level, groups, syndromes }
    }

    fn question(groups: GroupsRequest) -> Option<Question> {
        SyncRequest { groups: Some(groups), ..Default::default() }.question()
    }

    #[test]
    fn groups_are_asked_for_by_bits() {
        for (level, groups) in
            [(0, vec![0]), (2, vec![0, 3]), (12, vec![0, 7, 8, 4095]), (12, (0..4096).collect())]
        {
            let asked = asked(level, groups, 3..64);
            let request = GroupsRequest::new(&asked);
            let bytes = lenient::to_vec(&request).unwrap();
            let request: GroupsRequest = lenient::from_slice(&bytes).unwrap();
            assert_eq!(question(request), Some(Question::Groups(asked)));
        }
    }

    #[test]
    fn groups_and_syndromes_that_do_not_exist_are_no_question() {
        let good = GroupsRequest::new(&asked(3, vec![1, 2], 0..17));
        assert!(question(good.clone()).is_some());
        let which = |bytes: &[u8]| Some(Blob::try_from(bytes.to_vec()).unwrap());
        for bad in [
            GroupsRequest { level: 13, ..good.clone() },
            GroupsRequest { which: which(&[]), ..good.clone() },
            GroupsRequest { which: which(&[0]), ..good.clone() },
            GroupsRequest { which: which(&[1, 1]), ..good.clone() },
            GroupsRequest { level: 2, which: which(&[0x88]), ..good.clone() },
            GroupsRequest { from: 17, ..good.clone() },
            GroupsRequest { to: 65, ..good.clone() },
            GroupsRequest { to: u64::MAX, ..good.clone() },
        ] {
            assert_eq!(question(bad.clone()), None, "{bad:?}");
        }
        assert_eq!(SyncRequest::default().question(), None);
        let two = SyncRequest { groups: Some(good), all: Some(List::default()), ..Default::default() };
        assert_eq!(two.question(), None);
    }

    #[test]
    fn an_idle_question_and_its_answer_are_short() {
        let root = Root::from_bytes([7; 16]);
        let candidates: Candidates = vec![root, root].try_into().unwrap();
        let table = (TableId::from_bytes([1; 32]), candidates.clone());
        let since = 1_700_000_000;
        let one = SyncRequest { since, tables: Some(vec![table].try_into().unwrap()), ..Default::default() };
        let all = SyncRequest { since, all: Some(candidates), ..Default::default() };
        let same = Some(vec![Some(0)].try_into().unwrap());
        let answer = lenient::to_vec(&SyncResponse { since, same, ..Default::default() }).unwrap();
        for request in [one, all] {
            let request = lenient::to_vec(&request).unwrap();
            // Besides the lengths of the frames and the envelope of the reply.
            assert!(request.len() + answer.len() + 8 <= 150, "{} + {}", request.len(), answer.len());
        }
    }

    #[test]
    fn a_claim_round_trips() {
        let mut summary = Summary::default();
        summary.insert(&crate::reconcile::sketch::Element::of(&crate::id::EntryId::from_bytes([9; 32])));
        let claim = Claim::from(&summary);
        let bytes = lenient::to_vec(&claim).unwrap();
        assert_eq!(lenient::from_slice::<Claim>(&bytes), Ok(claim));
        assert!(bytes.len() < 300);
        assert_eq!(words(&word_bytes([1, u64::MAX])), Some(vec![1, u64::MAX]));
        assert_eq!(words(&[0; 9]), None);
    }
}
