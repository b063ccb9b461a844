//! The first question of the faster form: which common tables differ at all (SPEC 10.7).
//!
//! An idle round is one question and one answer of some hundred bytes together, whatever the number of tables: the digest of
//! all of them. Only when it differs, or if there is one table only, are they named.

use sha2::{Digest as _, Sha256};

use crate::{
    id::TableId,
    limits::MAX_SYNC_CANDIDATES,
    message::sync::{Candidates, Claim, SyncRequest, SyncResponse},
    reconcile::{
        Misbehaviour, Residual,
        sketch::{Root, Summary, Tally},
    },
};

/// A table that is compared.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The table.
    pub table: TableId,
    /// What is stored of it here, in the scope that is asked for.
    pub own: Summary,
    /// What the last session with this peer in this scope found.
    pub residual: Residual,
}

/// What a peer's answer says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The peer has what is stored here.
    Equal,
    /// The peer has what it was expected to have: there is nothing to get.
    Expected,
    /// The peer has something else.
    Differs(Box<Claim>),
}

impl Compared {
    fn expected(&self) -> Option<Tally> {
        (!self.residual.is_empty()).then(|| self.residual.applied_to_tally(self.own.tally()))
    }

    /// The roots that the peer's table may have if there is nothing to do.
    fn candidates(&self) -> Vec<Root> {
        [Some(self.own.root()), self.expected().map(|expected| expected.root())]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// The digest of all common tables: of the ids and roots of those that have entries, which must ascend.
#[must_use]
pub fn digest_of_all(tables: impl IntoIterator<Item = (TableId, Root)>) -> Root {
    let mut hash = Sha256::new();
    hash.update(b"p2pdb roots v1");
    for (table, root) in tables {
        hash.update(table.as_bytes());
        hash.update(root.as_bytes());
    }
    Root::of(hash)
}

fn digest_of(tables: impl IntoIterator<Item = (TableId, Tally)>) -> Root {
    let inhabited = tables.into_iter().filter(|(_, tally)| !tally.is_empty());
    digest_of_all(inhabited.map(|(table, tally)| (table, tally.root())))
}

/// Asks whether all of the tables, which must ascend, are as they are here, or as they are expected to be.
#[must_use]
pub fn ask_for_all(since: u64, tables: &[Compared]) -> SyncRequest {
    let own = tables.iter().map(|compared| (compared.table, *compared.own.tally()));
    let mut digests = vec![digest_of(own)];
    if tables.iter().any(|compared| !compared.residual.is_empty()) {
        let expected = |compared: &Compared| compared.expected().unwrap_or(*compared.own.tally());
        digests.push(digest_of(tables.iter().map(|compared| (compared.table, expected(compared)))));
    }
    SyncRequest { since, all: Some(to_wire(digests)), ..SyncRequest::default() }
}

/// Asks of each of the tables whether it is as it is here, or as it is expected to be; at most
/// [`MAX_TABLES`](crate::limits::MAX_TABLES).
#[must_use]
pub fn ask_for_each(since: u64, tables: &[Compared]) -> SyncRequest {
    let named = tables.iter().map(|compared| (compared.table, to_wire(compared.candidates())));
    let named: Vec<_> = named.take(crate::limits::MAX_TABLES).collect();
    SyncRequest { since, tables: named.try_into().ok(), ..SyncRequest::default() }
}

/// Whether the answer to [`ask_for_all`] says that there is nothing to do.
///
/// # Errors
/// If it is no answer to that question.
pub fn all_are_equal(response: &SyncResponse) -> Result<bool, Misbehaviour> {
    match response.same.as_deref() {
        Some([same]) if same.is_none_or(|number| number < MAX_SYNC_CANDIDATES as u64) => Ok(same.is_some()),
        _ => Err(Misbehaviour::WrongAnswer),
    }
}

/// What the answer to [`ask_for_each`] says of each table.
///
/// # Errors
/// If it is no answer to that question.
pub fn findings(response: SyncResponse, asked: &[Compared]) -> Result<Vec<Finding>, Misbehaviour> {
    let same = response.same.unwrap_or_default();
    if same.len() != asked.len() {
        return Err(Misbehaviour::WrongAnswer);
    }
    let mut claims = response.differing.unwrap_or_default().into_iter();
    let find = |(same, compared): (&Option<u64>, &Compared)| match same {
        Some(0) => Ok(Finding::Equal),
        Some(1) if !compared.residual.is_empty() => Ok(Finding::Expected),
        Some(_) => Err(Misbehaviour::WrongAnswer),
        None => claims.next().map(|claim| Finding::Differs(Box::new(claim))).ok_or(Misbehaviour::WrongAnswer),
    };
    let findings = same.iter().zip(asked).map(find).collect::<Result<Vec<_>, _>>()?;
    if claims.next().is_some() { Err(Misbehaviour::WrongAnswer) } else { Ok(findings) }
}

/// The answer to [`ask_for_all`], from what the responder has of the common tables, which must ascend.
#[must_use]
pub fn answer_for_all(
    since: u64,
    candidates: &[Root],
    tables: impl IntoIterator<Item = (TableId, Tally)>,
) -> SyncResponse {
    let same = number_of(candidates, digest_of(tables));
    SyncResponse { since, same: vec![same].try_into().ok(), ..SyncResponse::default() }
}

/// The answer to [`ask_for_each`], from what the responder has of each of the tables.
#[must_use]
pub fn answer_for_each(since: u64, tables: &[(Vec<Root>, Summary)]) -> SyncResponse {
    let numbers = tables.iter().map(|(candidates, own)| number_of(candidates, own.root()));
    let same: Vec<Option<u64>> = numbers.collect();
    let differing = same.iter().zip(tables).filter(|(same, _)| same.is_none());
    let differing: Vec<Claim> = differing.map(|(_, (_, own))| Claim::from(own)).collect();
    let differing = if differing.is_empty() { None } else { differing.try_into().ok() };
    SyncResponse { since, same: same.try_into().ok(), differing, groups: None }
}

fn number_of(candidates: &[Root], root: Root) -> Option<u64> {
    candidates.iter().position(|candidate| *candidate == root).map(|number| number as u64)
}

fn to_wire(mut candidates: Vec<Root>) -> Candidates {
    candidates.truncate(MAX_SYNC_CANDIDATES);
    Candidates::try_from(candidates).unwrap_or_default()
}
