//! Takes entries from peers (SPEC 8.4).

use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    message::{
        Reply, Status,
        put::{Put, PutRequest, PutResponse},
    },
    refusal::Outcome,
};

use crate::{
    ingest::Way,
    serve::{Answer, Service, quota::Limiter},
    swarm::{Conduct, Incoming},
};

impl Answer for Put {
    fn cost<'a>(service: &'a Service, request: &PutRequest) -> (&'a Limiter, usize) {
        (&service.puts, request.entries.len())
    }

    async fn answer(service: &Service, incoming: &Incoming<Self>, request: PutRequest) -> Reply<PutResponse> {
        if request.entries.is_empty() {
            return Reply::refused(Status::BadRequest);
        }
        let entries = request.entries.into_inner().into_iter().map(Blob::into_inner).collect();
        let keys = request.keys.into_inner().into_iter().map(Blob::into_inner).collect();
        let judgements = service.gate.admit(Way::Put, entries, keys).await;
        let (mut brought, mut misbehaved) = (false, false);
        for judgement in &judgements {
            match judgement.outcome {
                Outcome::Stored => brought = true,
                Outcome::Refused(refusal) if refusal.is_misbehaviour() => {
                    tracing::debug!(peer = %incoming.peer, reason = refusal.name(), "refused an entry");
                    misbehaved = true;
                }
                _ => {}
            }
        }
        // Once for the request: else a single one would ban its sender before he learns what is wrong with it.
        if misbehaved {
            service.swarm.report(incoming.peer, Conduct::Misbehaviour).await;
        } else if brought {
            service.swarm.report(incoming.peer, Conduct::FreshEntry).await;
        }
        match List::try_from(judgements.iter().map(|judgement| judgement.outcome.code()).collect::<Vec<_>>())
        {
            Ok(outcomes) => Reply::Ok(PutResponse { outcomes }),
            Err(_) => Reply::refused(Status::Failed),
        }
    }
}
