//! Introduces this node and passes on whom it knows (SPEC 8.3).

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use libp2p::identity::ed25519;
use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    id::{NetworkId, TableId},
    limits,
    message::{
        Reply, Status,
        hello::{Hello, HelloRequest, HelloResponse, RecordBytes},
    },
    record::NodeRecord,
};

use crate::{
    serve::{Answer, Service, quota::Limiter},
    swarm::{Conduct, Incoming},
};

/// Bytes of records in one response, with room for the rest of the frame.
const MAX_RECORDS_BYTES: usize = limits::HELLO_RESPONSE_BYTES - limits::MAX_RECORD_BYTES - 1024;

/// This node's own record, signed anew when what it says has changed.
#[derive(Debug)]
pub struct OwnRecord {
    key: ed25519::Keypair,
    network: NetworkId,
    signed: Mutex<Option<(NodeRecord, Bytes)>>,
}

impl OwnRecord {
    /// A record to be signed with the node's key.
    #[must_use]
    pub const fn new(key: ed25519::Keypair, network: NetworkId) -> Self {
        Self { key, network, signed: Mutex::new(None) }
    }

    /// The signed record that says this, with a sequence number of `now` or later if it is a new one.
    pub fn current(
        &self,
        addresses: Vec<Vec<u8>>,
        tables: Option<Vec<TableId>>,
        horizon: u64,
        puts_per_minute: u64,
        now: u64,
    ) -> Bytes {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let last = signed.as_ref().map_or(0, |(record, _)| record.sequence);
        let mut record = NodeRecord {
            key: self.key.public().to_bytes(),
            sequence: last,
            addresses,
            tables,
            horizon,
            puts_per_minute,
        };
        match signed.as_ref() {
            Some((known, encoded)) if *known == record => encoded.clone(),
            _ => {
                record.sequence = now.max(last.saturating_add(1));
                let encoded = Bytes::from(record.sign(&self.network, |message| self.key.sign(message)));
                *signed = Some((record, encoded.clone()));
                encoded
            }
        }
    }
}

impl Answer for Hello {
    fn cost<'a>(service: &'a Service, _: &HelloRequest) -> (&'a Limiter, usize) {
        (&service.hellos, 1)
    }

    async fn answer(service: &Service, incoming: &Incoming<Self>, request: HelloRequest) -> Reply<HelloResponse> {
        let now = service.clock.now();
        if let Some(record) = request.record {
            match service.routes.met(incoming.peer, record.into_inner(), now) {
                Ok(route) => {
                    let addresses = route.addresses().collect();
                    service.swarm.add_addresses(incoming.peer, addresses, incoming.peer).await;
                }
                Err(error) => {
                    tracing::debug!(peer = %incoming.peer, %error, "not the peer's record");
                    service.swarm.report(incoming.peer, Conduct::Misbehaviour).await;
                    return Reply::refused(Status::BadRequest);
                }
            }
        }
        let Some(record) = service.record().await else { return Reply::refused(Status::Failed) };
        let tables = request.tables.map(List::into_inner);
        let mut room = MAX_RECORDS_BYTES;
        let mut records = service.routes.mirrors(tables.as_deref(), limits::MAX_HELLO_RECORDS);
        records.retain(|route| route.peer != incoming.peer);
        let records = records.into_iter().filter_map(|route| Blob::try_from(route.encoded).ok());
        let records: Vec<_> = records
            .take_while(|record: &RecordBytes| {
                let fits = record.len() + 8 <= room;
                room = room.saturating_sub(record.len() + 8);
                fits
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
        let tables = self.gate.mirror().tables().map(|tables| tables.iter().copied().collect());
        let now = self.clock.now();
        let puts = u64::from(self.rates.puts);
        Some(self.own_record.current(addresses, tables, self.horizon, puts, now))
    }
}
