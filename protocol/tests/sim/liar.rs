//! The ways in which a node lies. A liar holds real entries, so that there is something to be kept from others.

use p2pdb_protocol::{
    bucket::{BucketSummary, Digest, id_range},
    id::EntryId,
    limits::MAX_INDEX_IDS,
    message::sync::SyncResponse,
    reconcile::{
        Request,
        sketch::{Element, Root, Summary, Tow},
    },
};
use rand_core::Rng as _;

use super::{node::Answer, random::Random, store::Store};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Digests that are not those of its ids.
    FalseDigests,
    /// Counts that are not those of its ids.
    FalseCounts,
    /// More ids than any table can hold.
    ImpossibleCounts,
    /// Every bucket is claimed twice.
    DuplicateBuckets,
    /// Buckets in descending order.
    DescendingBuckets,
    /// A bucket beyond the last one.
    NoSuchBucket,
    /// A bucket without ids.
    EmptyBucket,
    /// A scope that begins before the one asked for, or not with an epoch.
    WrongScope,
    /// Pages in descending order.
    DescendingPages,
    /// Pages that begin anew, whatever `after` says.
    RepeatedPages,
    /// Pages with ids of another bucket.
    WrongBucket,
    /// Pages that are empty, although more are said to follow.
    EmptyPages,
    /// Pages that are longer than asked for.
    LongPages,
    /// Pages of invented ids without end.
    EndlessPages,
    /// Pages of one id, although there are more.
    DrippingPages,
    /// Invented ids among the real ones.
    InventedIds,
    /// Lists everything, serves nothing, and says that more follows.
    ServesNothing,
    /// Serves real entries with spoiled signatures.
    SpoiledSignatures,
    /// Serves entries that were not asked for (any more).
    Unsolicited,
    /// Syndromes and counters that are those of no set.
    FalseSketches,
    /// Roots that are those of no set.
    FalseRoots,
    /// Fewer syndromes than asked for.
    ShortSketches,
    /// Sketches with ids of no entry.
    InventedSids,
    /// Says that all is equal.
    FalseEquality,
    /// Says that it has nothing.
    HidesEverything,
    /// Does not answer.
    Silent,
}

impl Lie {
    pub const ALL: [Lie; 26] = [
        Lie::FalseDigests,
        Lie::FalseCounts,
        Lie::ImpossibleCounts,
        Lie::DuplicateBuckets,
        Lie::DescendingBuckets,
        Lie::NoSuchBucket,
        Lie::EmptyBucket,
        Lie::WrongScope,
        Lie::DescendingPages,
        Lie::RepeatedPages,
        Lie::WrongBucket,
        Lie::EmptyPages,
        Lie::LongPages,
        Lie::EndlessPages,
        Lie::DrippingPages,
        Lie::InventedIds,
        Lie::ServesNothing,
        Lie::SpoiledSignatures,
        Lie::Unsolicited,
        Lie::FalseSketches,
        Lie::FalseRoots,
        Lie::ShortSketches,
        Lie::InventedSids,
        Lie::FalseEquality,
        Lie::HidesEverything,
        Lie::Silent,
    ];

    /// What only a peer can say that speaks the faster form.
    pub fn is_of_sketches(self) -> bool {
        matches!(
            self,
            Lie::FalseSketches
                | Lie::FalseRoots
                | Lie::ShortSketches
                | Lie::InventedSids
                | Lie::FalseEquality
        )
    }

    /// Whether no honest node could answer like that, so that the first session finds it out.
    pub fn is_provable(self) -> bool {
        !self.is_of_sketches()
            && !matches!(
                self,
                Lie::FalseDigests
                    | Lie::FalseCounts
                    | Lie::EndlessPages
                    | Lie::DrippingPages
                    | Lie::InventedIds
                    | Lie::ServesNothing
                    | Lie::HidesEverything
                    | Lie::Silent
            )
    }

    /// The answer of a liar instead of the honest one; none if it keeps silent.
    pub fn distort(
        self,
        mut answer: Answer,
        request: &Request,
        store: &Store,
        random: &mut Random,
    ) -> Option<Answer> {
        if self == Lie::Silent {
            return None;
        }
        match (request, &mut answer) {
            (Request::Index { since, .. }, Answer::Index { since: scope, buckets, .. }) => {
                self.distort_index(*since, scope, buckets, store, random);
            }
            (Request::Ids { bucket, after, .. }, Answer::Index { ids, more, .. }) => {
                self.distort_page(*bucket, *after, ids, more, store, random);
            }
            (Request::Groups { .. }, Answer::Groups { root, syndromes, .. }) => match self {
                Lie::FalseSketches => syndromes.iter_mut().for_each(|word| *word = random.next_u64()),
                Lie::FalseRoots => *root = Root::from_bytes(random.bytes()),
                Lie::ShortSketches => syndromes.truncate(1),
                _ => {}
            },
            (Request::Page { .. }, Answer::Page { items, next, more }) => match self {
                Lie::EndlessPages => *more = true,
                Lie::RepeatedPages => {
                    next.arrival = 1;
                    *more = true;
                }
                Lie::EmptyPages => {
                    items.clear();
                    *more = true;
                }
                Lie::SpoiledSignatures => items.iter_mut().for_each(|item| item.valid = false),
                _ => {}
            },
            (Request::Get { .. } | Request::Sids { .. }, Answer::Entries { items, more }) => match self {
                Lie::ServesNothing => (*items, *more) = (Vec::new(), true),
                Lie::SpoiledSignatures => items.iter_mut().for_each(|item| item.valid = false),
                Lie::Unsolicited => items.extend_from_within(..),
                _ => {}
            },
            _ => unreachable!("an answer of the wrong kind"),
        }
        Some(answer)
    }

    /// The answer of a liar to the question which tables differ; none if it keeps silent.
    pub fn distort_roots(self, mut response: SyncResponse, random: &mut Random) -> Option<SyncResponse> {
        if self == Lie::Silent {
            return None;
        }
        if self == Lie::FalseEquality {
            let same = response.same.iter().flatten().map(|_| Some(0)).collect::<Vec<_>>();
            return Some(SyncResponse { same: same.try_into().ok(), differing: None, ..response });
        }
        let mut claims = response.differing.take().map(|claims| claims.into_inner()).unwrap_or_default();
        for claim in &mut claims {
            match self {
                Lie::FalseSketches => {
                    claim.syndromes = std::array::from_fn(|_| random.next_u64());
                    claim.tow = Tow::from_bytes(&random.bytes());
                }
                Lie::FalseRoots => claim.root = Root::from_bytes(random.bytes()),
                Lie::InventedSids => {
                    let mut invented = Summary::default();
                    (0..5).for_each(|_| invented.insert(&Element::of(&EntryId::from_bytes(random.bytes()))));
                    claim.n += 5;
                    claim.syndromes.iter_mut().zip(invented.syndromes()).for_each(|(own, more)| *own ^= more);
                }
                Lie::HidesEverything => *claim = (&Summary::default()).into(),
                _ => {}
            }
        }
        if !claims.is_empty() {
            response.differing = claims.try_into().ok();
        }
        Some(response)
    }

    fn distort_index(
        self,
        since: u64,
        scope: &mut u64,
        buckets: &mut Vec<BucketSummary>,
        store: &Store,
        random: &mut Random,
    ) {
        let digest = Digest::from_bytes(random.bytes());
        match self {
            Lie::FalseDigests => {
                buckets.iter_mut().for_each(|bucket| bucket.digest = Digest::from_bytes(random.bytes()));
            }
            Lie::FalseCounts => buckets.iter_mut().for_each(|bucket| bucket.count += 1000),
            Lie::ImpossibleCounts => buckets.iter_mut().for_each(|bucket| bucket.count = u64::MAX / 2),
            Lie::DuplicateBuckets => *buckets = buckets.iter().flat_map(|bucket| [*bucket; 2]).collect(),
            Lie::DescendingBuckets => buckets.reverse(),
            Lie::NoSuchBucket => {
                buckets.push(BucketSummary { bucket: 1 << store.rules.bucket_bits, count: 1, digest });
            }
            Lie::EmptyBucket => buckets.iter_mut().for_each(|bucket| bucket.count = 0),
            Lie::WrongScope => *scope = since.saturating_sub(1) | 1,
            Lie::EndlessPages => {
                let all = 0..1 << store.rules.bucket_bits;
                *buckets = all.map(|bucket| BucketSummary { bucket, count: 1 << 20, digest }).collect();
            }
            Lie::HidesEverything => buckets.clear(),
            // These need a reason to be asked for pages or entries.
            _ => buckets.iter_mut().for_each(|bucket| bucket.digest = Digest::from_bytes(random.bytes())),
        }
    }

    fn distort_page(
        self,
        bucket: u16,
        after: Option<EntryId>,
        ids: &mut Vec<EntryId>,
        more: &mut bool,
        store: &Store,
        random: &mut Random,
    ) {
        let (first, last) = id_range(bucket, store.rules.bucket_bits);
        let from = after.unwrap_or(first);
        match self {
            Lie::DescendingPages if ids.len() > 1 => ids.reverse(),
            Lie::DescendingPages => ids.extend_from_within(..),
            Lie::RepeatedPages => {
                *ids = after.map_or_else(|| ids.clone(), |after| vec![after]);
                *more = true;
            }
            Lie::WrongBucket => ids.push(EntryId::from_bytes(last.as_bytes().map(|byte| !byte))),
            Lie::EmptyPages => (*ids, *more) = (Vec::new(), true),
            Lie::LongPages => *ids = successors(from, last, MAX_INDEX_IDS + 1),
            Lie::EndlessPages => {
                *ids = successors(from, last, MAX_INDEX_IDS);
                *more = true;
            }
            Lie::DrippingPages => {
                *more |= ids.len() > 1;
                ids.truncate(1);
            }
            Lie::InventedIds => {
                let Some(start) = ids.last().copied() else { return };
                let count = 1 + random.below(20);
                ids.extend(successors(start, last, count));
                ids.truncate(MAX_INDEX_IDS);
            }
            _ => {}
        }
    }
}

/// The next ids after one, as numbers, up to the end of a bucket.
fn successors(after: EntryId, last: EntryId, count: usize) -> Vec<EntryId> {
    let [head @ .., _, _, _, _, _, _, _, _] = *after.as_bytes();
    let head: [u8; 24] = head;
    let tail = u64::from_be_bytes(after.as_bytes()[24..].try_into().expect("8 bytes"));
    let id = |step: usize| {
        let tail = tail.checked_add(step as u64)?;
        let mut bytes = [0; 32];
        bytes[..24].copy_from_slice(&head);
        bytes[24..].copy_from_slice(&tail.to_be_bytes());
        Some(EntryId::from_bytes(bytes))
    };
    (1..=count).map_while(id).filter(|id| *id <= last).collect()
}
