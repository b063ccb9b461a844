//! What a peer says to all and hears from all.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use libp2p::{PeerId, gossipsub};
use p2pdb::protocol::{
    codec::{bounded::List, lenient},
    id::{EntryId, TableId},
    message::announce,
};
use tokio::sync::mpsc;

use super::{Peer, Raw, behaviour::RUMOURS};
use crate::support::until;

impl Peer {
    /// Announces ids if anybody listens; whether it was sent.
    pub(crate) async fn shout(&self, table: TableId, ids: &[EntryId]) -> bool {
        let topic = gossipsub::IdentTopic::new(announce::topic(&self.network, &table));
        let ids: announce::Announce = List::try_from(ids.to_vec()).unwrap();
        let data = lenient::to_vec(&ids).unwrap();
        self.tell(move |event_loop, done| {
            done.send(event_loop.swarm.behaviour_mut().gossip.publish(topic, data).is_ok()).unwrap();
        })
        .await
    }

    /// Sends these bytes on a stream of gossip, and waits until the node has taken them; whether it did.
    pub(crate) async fn spread(&self, node: PeerId, bytes: Vec<u8>) -> bool {
        self.send_as(RUMOURS, node, bytes.into()).await.await.unwrap().is_some()
    }

    /// Opens a stream of gossip and sends on it what comes by the channel, until that is closed; then whether the node took it.
    pub(crate) async fn speak(
        &self,
        node: PeerId,
    ) -> (mpsc::Sender<Bytes>, impl Future<Output = bool> + use<>) {
        // One that waits and no more, so that what is counted is what the node takes.
        let (says, more) = mpsc::channel(1);
        let raw = Raw { more: Some(more), ..Vec::new().into() };
        let taken = self.send_as(RUMOURS, node, raw).await;
        (says, async { taken.await.unwrap().is_some() })
    }

    /// Listens to the announces of a table.
    pub(crate) async fn subscribe(&self, table: TableId) {
        self.join(announce::topic(&self.network, &table)).await;
    }

    /// Listens to the announces of new tables.
    pub(crate) async fn subscribe_to_new_tables(&self) {
        self.join(announce::new_tables_topic(&self.network)).await;
    }

    async fn join(&self, topic: String) {
        let topic = gossipsub::IdentTopic::new(topic);
        self.tell(move |event_loop, done| {
            event_loop.swarm.behaviour_mut().gossip.subscribe(&topic).unwrap();
            done.send(()).unwrap();
        })
        .await;
    }

    /// Announces ids; waits until a peer is there that listens.
    pub(crate) async fn announce(&self, table: TableId, ids: &[EntryId]) {
        let ids: announce::Announce = List::try_from(ids.to_vec()).unwrap();
        self.announce_raw(table, lenient::to_vec(&ids).unwrap()).await;
    }

    pub(crate) async fn announce_raw(&self, table: TableId, data: Vec<u8>) {
        self.publish(announce::topic(&self.network, &table), data).await;
    }

    /// Announces new tables; waits until a peer is there that listens.
    pub(crate) async fn announce_tables(&self, tables: &[TableId]) {
        let tables: announce::NewTables = List::try_from(tables.to_vec()).unwrap();
        self.publish(announce::new_tables_topic(&self.network), lenient::to_vec(&tables).unwrap()).await;
    }

    async fn publish(&self, topic: String, data: Vec<u8>) {
        let topic = gossipsub::IdentTopic::new(topic);
        until("somebody hears the announce", || async {
            let (topic, data) = (topic.clone(), data.clone());
            self.tell(move |event_loop, done| {
                let published = event_loop.swarm.behaviour_mut().gossip.publish(topic, data);
                done.send(published.is_ok()).unwrap();
            })
            .await
        })
        .await;
    }

    /// The next announce of new tables that comes.
    pub(crate) async fn hears_of_tables(&mut self) -> Vec<TableId> {
        let heard = tokio::time::timeout(Duration::from_secs(60), self.heard_tables.recv());
        heard.await.expect("an announce").unwrap()
    }

    /// The next announce that comes.
    pub(crate) async fn hears(&mut self) -> Vec<EntryId> {
        tokio::time::timeout(Duration::from_secs(60), self.heard.recv()).await.expect("an announce").unwrap()
    }
}
