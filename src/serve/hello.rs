//! Introduces this node and passes on whom it knows (SPEC 8.3).

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use libp2p::identity::ed25519;
use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    id::NetworkId,
    limits,
    message::{
        Reply, Status,
        hello::{Hello, HelloRequest, HelloResponse, RecordBytes},
    },
    record::{NodeRecord, RecordError, SignedRecord},
};

use crate::{
    serve::{Answer, Service, quota::Limiter},
    swarm::{Conduct, Incoming, routes::RouteError},
};

/// Bytes of records in one response, with room for the rest of the frame.
const MAX_RECORDS_BYTES: usize = limits::HELLO_RESPONSE_BYTES - limits::MAX_RECORD_BYTES - 1024;

/// This node's own record, signed anew when what it says has changed.
#[derive(Debug)]
pub struct OwnRecord {
    key: ed25519::Keypair,
    network: NetworkId,
    horizon: u64,
    signed: Mutex<Option<SignedRecord>>,
}

impl OwnRecord {
    /// A record to be signed with the node's key; `horizon` is what the store keeps by age, in seconds, 0 for all.
    #[must_use]
    pub const fn new(key: ed25519::Keypair, network: NetworkId, horizon: u64) -> Self {
        Self { key, network, horizon, signed: Mutex::new(None) }
    }

    /// The signed record that says what `record` says; if that is new, with the sequence number `now`, or the next.
    fn current(&self, mut record: NodeRecord, now: u64) -> Result<Bytes, RecordError> {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let last = signed.as_ref().map_or(0, |last| last.record().sequence);
        record.sequence = last;
        if let Some(last) = signed.as_ref().filter(|last| *last.record() == record) {
            return Ok(last.encoded().clone());
        }
        record.sequence = now.max(last.saturating_add(1));
        let fresh = record.sign(&self.network, |message| {
            let mut signature = [0; 64];
            signature.iter_mut().zip(self.key.sign(message)).for_each(|(to, from)| *to = from);
            signature
        })?;
        Ok(signed.insert(fresh).encoded().clone())
    }
}

impl Answer for Hello {
    fn cost<'a>(service: &'a Service, _: &HelloRequest) -> (&'a Limiter, usize) {
        (&service.hellos, 1)
    }

    async fn answer(
        service: &Service,
        incoming: &mut Incoming<Self>,
        request: HelloRequest,
    ) -> Reply<HelloResponse> {
        let now = service.clock.now();
        if let Some(record) = request.record {
            let seen_at = service.swarm.address_of(incoming.peer).await;
            match service.routes.met(incoming.peer, record.into_inner(), seen_at, now) {
                Ok(route) => {
                    let addresses = route.addresses().collect();
                    service.swarm.add_addresses(incoming.peer, addresses).await;
                }
                // A wrong clock is no ill will.
                Err(RouteError::FromTheFuture) => return Reply::refused(Status::BadRequest),
                Err(error) => {
                    tracing::debug!(peer = %incoming.peer, %error, "not the peer's record");
                    incoming.note(Conduct::Misbehaviour);
                    return Reply::refused(Status::BadRequest);
                }
            }
        }
        let Some(record) = service.record().await else { return Reply::refused(Status::Failed) };
        let tables = request.tables.map(List::into_inner);
        let mut room = MAX_RECORDS_BYTES;
        let records = service.routes.mirrors(tables.as_deref(), limits::MAX_HELLO_RECORDS);
        let records = records.into_iter().filter(|route| route.peer != incoming.peer);
        let records = records.filter_map(|route| Blob::try_from(route.signed.encoded().clone()).ok());
        // A long one leaves the room to the shorter ones after it.
        let records: Vec<_> = records
            .filter(|record: &RecordBytes| {
                let left = room.checked_sub(record.len() + 8);
                room = left.unwrap_or(room);
                left.is_some()
            })
            .collect();
        match (Blob::try_from(record), List::try_from(records)) {
            (Ok(record), Ok(records)) => Reply::Ok(HelloResponse { record, records }),
            _ => Reply::refused(Status::Failed),
        }
    }
}

impl Service {
    /// This node's signed record as of now; none while it shuts down.
    pub async fn record(&self) -> Option<Bytes> {
        let addresses = self.swarm.own_addresses().await.ok()?;
        let addresses = addresses
            .into_iter()
            .map(|address| address.to_vec())
            .filter(|address| address.len() <= limits::MAX_ADDRESS_BYTES)
            .take(limits::MAX_RECORD_ADDRESSES)
            .collect();
        let tables = self.gate.mirror().tables();
        let record = NodeRecord {
            key: self.own_record.key.public().to_bytes(),
            sequence: 0,
            addresses,
            tables: tables.map(|tables| tables.iter().copied().collect()),
            horizon: self.own_record.horizon,
            // Our 0 means no limit, the record's means none at all.
            puts_per_minute: if self.rates.puts == 0 { u64::from(u32::MAX) } else { self.rates.puts.into() },
        };
        let signed = self.own_record.current(record, self.clock.now());
        signed.inspect_err(|error| tracing::error!(%error, "this node's record cannot be signed")).ok()
    }
}
