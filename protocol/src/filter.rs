//! Which entries a get asks for (SPEC 8.5). A filter that would match everything cannot be made.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    bucket::bucket_of,
    codec::bounded::{Blob, List},
    entry::Header,
    id::{EntryId, RecipientId, TableId},
    limits,
    message::{
        get::GetRequest,
        sync::{word_bytes, words},
    },
    network::Network,
    reconcile::sketch::Sid,
};

/// A place in the order in which entries arrived at one node's store (SPEC 8.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Names the store: arrival numbers mean nothing in another one.
    pub store: [u8; 8],
    /// The last arrival number that was looked at.
    pub arrival: u64,
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (serde_bytes::Bytes::new(&self.store), self.arrival).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (store, arrival) = <(serde_bytes::ByteArray<8>, u64)>::deserialize(deserializer)?;
        Ok(Self { store: store.into_array(), arrival })
    }
}

/// Why a request is not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// No filter at all.
    #[error("a get needs at least one of ids, tables, recipients, bucket, seconds_since, created or cursor")]
    Empty,
    /// A list filter that is present but empty matches nothing.
    #[error("the list of {0} is empty: leave it out, or name at least one")]
    EmptyList(&'static str),
    /// Beginnings of ids are asked for in another way than SPEC 8.5 permits.
    #[error("sids are whole numbers of 8 bytes, none of them 0, and need one table and no other filter")]
    BadSids,
    /// A list is too long.
    #[error("{got} {what} are asked for at once, at most {max} are possible")]
    TooMany {
        /// What is listed.
        what: &'static str,
        /// The limit.
        max: usize,
        /// The number asked for.
        got: usize,
    },
    /// The network has no such bucket.
    #[error("bucket {got} does not exist: the network has {buckets} buckets, counted from 0")]
    NoSuchBucket {
        /// The bucket asked for.
        got: u64,
        /// How many there are.
        buckets: u64,
    },
    /// The limit is 0 or too large.
    #[error("limit {got} is not within 1 to {max}")]
    BadLimit {
        /// The limit asked for.
        got: u64,
        /// The largest permitted.
        max: usize,
    },
}

/// At least one condition; an entry must fulfil all that are set (SPEC 8.5).
///
/// An empty list is a condition that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Its id is one of these.
    pub ids: Vec<EntryId>,
    /// Its table is one of these.
    pub tables: Vec<TableId>,
    /// One of its recipients is one of these.
    pub recipients: Vec<RecipientId>,
    /// It lies in this bucket.
    pub bucket: Option<u16>,
    /// It arrived at the node at most so many seconds ago.
    pub seconds_since: Option<u64>,
    /// It was created at this time or later, in unix seconds.
    pub created_from: Option<u64>,
    /// It was created before this time, in unix seconds.
    pub created_until: Option<u64>,
    /// It arrived after this place.
    pub cursor: Option<Cursor>,
    /// Most entries wanted, 1 to [`limits::MAX_GET_ENTRIES`].
    pub limit: usize,
}

impl Filter {
    /// Reads the filter off a request.
    ///
    /// # Errors
    /// If the request has no condition, or one that cannot be fulfilled; also if it asks by sids, which is no filter but
    /// a [`BySids`].
    pub fn from_request(request: GetRequest, network: &Network) -> Result<Self, FilterError> {
        let GetRequest {
            ids,
            sids,
            tables,
            recipients,
            bucket,
            seconds_since,
            created_from,
            created_until,
            cursor,
            limit,
        } = request;
        if sids.is_some() {
            return Err(FilterError::BadSids);
        }
        let any_list = ids.is_some() || tables.is_some() || recipients.is_some();
        let any_number = [bucket, seconds_since, created_from, created_until].iter().any(Option::is_some);
        if !any_list && !any_number && cursor.is_none() {
            return Err(FilterError::Empty);
        }
        let buckets = 1 << network.bucket_bits;
        let bucket = match bucket {
            None => None,
            Some(got) if got < buckets => u16::try_from(got).ok(),
            Some(got) => return Err(FilterError::NoSuchBucket { got, buckets }),
        };
        Ok(Self {
            ids: listed("ids", ids)?,
            tables: listed("tables", tables)?,
            recipients: listed("recipients", recipients)?,
            bucket,
            seconds_since,
            created_from,
            created_until,
            cursor,
            limit: limit_of(limit)?,
        })
    }

    /// A filter of no conditions yet, for building one.
    fn blank() -> Self {
        Self {
            ids: Vec::new(),
            tables: Vec::new(),
            recipients: Vec::new(),
            bucket: None,
            seconds_since: None,
            created_from: None,
            created_until: None,
            cursor: None,
            limit: limits::DEFAULT_GET_ENTRIES,
        }
    }

    /// The entries of a table.
    #[must_use]
    pub fn table(table: TableId) -> Self {
        Self { tables: vec![table], ..Self::blank() }
    }

    /// The entries that a recipient can read.
    #[must_use]
    pub fn recipient(recipient: RecipientId) -> Self {
        Self { recipients: vec![recipient], ..Self::blank() }
    }

    /// The entries with these ids.
    #[must_use]
    pub fn ids(ids: Vec<EntryId>) -> Self {
        Self { ids, ..Self::blank() }
    }

    /// The same, and of this table.
    #[must_use]
    pub fn with_table(mut self, table: TableId) -> Self {
        self.tables.push(table);
        self
    }

    /// Whether no condition is set: such a filter cannot be asked for.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        self.ids.is_empty()
            && self.tables.is_empty()
            && self.recipients.is_empty()
            && [self.seconds_since, self.created_from, self.created_until].iter().all(Option::is_none)
            && self.bucket.is_none()
            && self.cursor.is_none()
    }

    /// Whether an entry fulfils every condition that does not depend on its arrival (SPEC 8.5).
    #[must_use]
    pub fn matches(&self, id: &EntryId, header: &Header, network: &Network) -> bool {
        (self.ids.is_empty() || self.ids.contains(id))
            && (self.tables.is_empty() || self.tables.contains(&header.table))
            && (self.recipients.is_empty()
                || header.recipients.iter().any(|wrapped| self.recipients.contains(&wrapped.recipient)))
            && self.bucket.is_none_or(|bucket| bucket_of(id, network.bucket_bits) == bucket)
            && self.created_from.is_none_or(|from| header.created >= from)
            && self.created_until.is_none_or(|until| header.created < until)
    }

    /// The request that says this filter.
    ///
    /// # Errors
    /// If a list is longer than one request can carry.
    pub fn to_request(&self) -> Result<GetRequest, FilterError> {
        Ok(GetRequest {
            ids: listable("ids", &self.ids)?,
            sids: None,
            tables: listable("tables", &self.tables)?,
            recipients: listable("recipients", &self.recipients)?,
            bucket: self.bucket.map(u64::from),
            seconds_since: self.seconds_since,
            created_from: self.created_from,
            created_until: self.created_until,
            cursor: self.cursor,
            limit: Some(self.limit as u64),
        })
    }
}

fn limit_of(asked: Option<u64>) -> Result<usize, FilterError> {
    let got = asked.unwrap_or(limits::DEFAULT_GET_ENTRIES as u64);
    let limit = usize::try_from(got).ok().filter(|limit| (1..=limits::MAX_GET_ENTRIES).contains(limit));
    limit.ok_or(FilterError::BadLimit { got, max: limits::MAX_GET_ENTRIES })
}

fn listed<T, const MAX: usize>(
    what: &'static str,
    list: Option<List<T, MAX>>,
) -> Result<Vec<T>, FilterError> {
    match list.map(List::into_inner) {
        None => Ok(Vec::new()),
        Some(list) if list.is_empty() => Err(FilterError::EmptyList(what)),
        Some(list) => Ok(list),
    }
}

fn listable<T: Clone, const MAX: usize>(
    what: &'static str,
    list: &[T],
) -> Result<Option<List<T, MAX>>, FilterError> {
    if list.is_empty() {
        return Ok(None);
    }
    List::try_from(list.to_vec()).map(Some).map_err(|e| FilterError::TooMany { what, max: e.max, got: e.got })
}

/// Asks for the entries of one table whose ids begin as given (SPEC 8.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BySids {
    /// The table.
    pub table: TableId,
    /// The beginnings; 1 to [`limits::MAX_GET_SIDS`].
    pub sids: Vec<Sid>,
    /// Most entries wanted, 1 to [`limits::MAX_GET_ENTRIES`].
    pub limit: usize,
}

impl BySids {
    /// Reads it off a request; nothing if the request asks for no sids.
    ///
    /// # Errors
    /// If they are asked for together with anything but one table and a limit, or are none.
    pub fn from_request(request: &GetRequest) -> Result<Option<Self>, FilterError> {
        let Some(bytes) = &request.sids else { return Ok(None) };
        let table = request.tables.as_ref().and_then(|tables| tables.first());
        let alone = GetRequest {
            sids: request.sids.clone(),
            tables: table.and_then(|table| List::try_from(vec![*table]).ok()),
            limit: request.limit,
            ..GetRequest::default()
        };
        let sids: Option<Vec<Sid>> =
            words(bytes).and_then(|words| words.into_iter().map(Sid::from_u64).collect());
        match (table, sids.filter(|sids| !sids.is_empty())) {
            (Some(table), Some(sids)) if alone == *request => {
                Ok(Some(Self { table: *table, sids, limit: limit_of(request.limit)? }))
            }
            _ => Err(FilterError::BadSids),
        }
    }

    /// The request that says it.
    ///
    /// # Errors
    /// If there are more sids than one request can carry.
    pub fn to_request(&self) -> Result<GetRequest, FilterError> {
        let bytes = word_bytes(self.sids.iter().map(|sid| sid.to_u64()));
        let too_many = FilterError::TooMany { what: "sids", max: limits::MAX_GET_SIDS, got: self.sids.len() };
        Ok(GetRequest {
            sids: Some(Blob::try_from(bytes).map_err(|_| too_many)?),
            tables: listable("tables", &[self.table])?,
            limit: Some(self.limit as u64),
            ..GetRequest::default()
        })
    }
}
