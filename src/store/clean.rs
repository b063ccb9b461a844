//! Giving back the space of what is dropped: segments that are mostly dead are rewritten.
//!
//! A segment of which nothing is stored is deleted as it is. That is how it ends when entries expire as they came;
//! what is evicted leaves holes. So when more lies dead in the log than an eighth of what is stored and two segments,
//! the stored records of the segment with the least of them move to another one. They are durable there before one
//! transaction changes where they are, and the old segment is deleted after that: a kill leaves one of them too many,
//! which the next opening deletes.

use std::collections::BTreeSet;

use redb::{Error, ReadableTable};

use super::{
    Core, StoreError, fault,
    log::{Appender, FrameWriter, Item, Kind, SEGMENT_HEADER},
    merge::delete_dead,
    record::Location,
    schema::{self, State},
};

/// Bytes of a frame of records that are moved, or half a segment if that is less.
const FRAME: usize = 8 << 20;
/// Segments that are rewritten when the operator compacts the store have at least this part dead.
const COMPACTED: u64 = 16;

/// Where records move to.
#[derive(Default)]
pub(super) struct Cleaner {
    moved: Option<Appender>,
    /// Segments that cannot be read as a whole.
    damaged: BTreeSet<u32>,
}

/// A segment that could be rewritten.
struct Candidate {
    number: u32,
    stored: u64,
    end: u64,
    /// Of its file: what a torn write left behind the end is dead, too.
    length: u64,
}

impl Candidate {
    fn dead(&self) -> u64 {
        self.length.saturating_sub(SEGMENT_HEADER + self.stored)
    }
}

impl Cleaner {
    /// Rewrites segments as long as more is dead than may be.
    pub(super) fn clean(&mut self, core: &Core) -> Result<(), StoreError> {
        loop {
            let candidates = self.candidates(core)?;
            let dead: u64 = candidates.iter().map(Candidate::dead).sum();
            let stored: u64 = candidates.iter().map(|candidate| candidate.stored).sum();
            if dead <= stored / 8 + 2 * core.log.segment_bytes() {
                return Ok(());
            }
            // The one with the least to be copied for what it gives back.
            let worst =
                candidates.iter().max_by_key(|candidate| (candidate.dead() << 16) / candidate.length.max(1));
            let Some(worst) = worst else { return Ok(()) };
            self.rewrite(core, worst)?;
        }
    }

    /// Rewrites every segment of which a part is dead.
    pub(super) fn clean_all(&mut self, core: &Core) -> Result<(), StoreError> {
        let old = self.candidates(core)?;
        // What is moved there meanwhile is whole.
        self.moved = None;
        for candidate in old.iter().filter(|candidate| candidate.dead() > candidate.length / COMPACTED) {
            self.rewrite(core, candidate)?;
        }
        Ok(())
    }

    /// Segments that nothing is added to any more.
    fn candidates(&self, core: &Core) -> Result<Vec<Candidate>, StoreError> {
        let growing = self.moved.as_ref().map(|moved| moved.end().segment);
        core.file.read(|txn| {
            let mark = State::read(&txn.open_table(schema::STATE)?)?.position;
            let segments = core.log.segments();
            let mut candidates = Vec::new();
            for row in txn.open_table(schema::SEGMENTS)?.iter()? {
                let (number, row) = row?;
                let (number, (stored, end)) = (number.value(), row.value());
                let Some(segment) = segments.get(&number) else { continue };
                let is_done = segment.kind == Kind::Moved || number < mark.segment;
                if is_done && growing != Some(number) && !self.damaged.contains(&number) {
                    candidates.push(Candidate { number, stored, end, length: segment.length()? });
                }
            }
            Ok(candidates)
        })
    }

    fn rewrite(&mut self, core: &Core, candidate: &Candidate) -> Result<(), StoreError> {
        let moved = match self.copy(core, candidate) {
            Ok(moved) => moved,
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(error = error.with_causes(), "a segment of the log stays as it is");
                self.damaged.insert(candidate.number);
                return Ok(());
            }
            Err(error) => {
                self.moved = None;
                return Err(error);
            }
        };
        let change = core.file.write(|txn| {
            let mut locations = txn.open_table(schema::LOCATIONS)?;
            let mut segments = txn.open_table(schema::SEGMENTS)?;
            for (arrival, to) in &moved {
                locations.insert(*arrival, to.to_row())?;
                let (stored, _) = segments.get(to.segment)?.map_or((0, 0), |row| row.value());
                let end = core.log.segments().get(&to.segment).map_or(0, |segment| segment.end());
                segments.insert(to.segment, (stored + to.record_length() as u64, end))?;
            }
            segments.remove(candidate.number)?;
            // Who verifies has seen other places.
            let mut counters = txn.open_table(schema::STATE)?;
            let state = State::read(&counters)?;
            let change = state.change + 1;
            counters.insert((), State { change, ..state }.to_row())?;
            fault::point(core.file.path(), "move")?;
            Ok((change, true))
        })?;
        core.live_mut().state.change = change;
        fault::point(core.file.path(), "moved").map_err(|error| core.file.fault(error.into()))?;
        delete_dead(core)
    }

    /// Copies the stored records of a segment; gives their new places.
    fn copy(&mut self, core: &Core, candidate: &Candidate) -> Result<Vec<(u64, Location)>, StoreError> {
        let fault = |error| core.file.fault(error);
        let segments = core.log.segments();
        let Some(segment) = segments.get(&candidate.number) else { return Ok(Vec::new()) };
        // Everything that was moved there may have been dropped since, and the segment with it.
        self.moved = self.moved.take().filter(|moved| segments.contains_key(&moved.end().segment));
        let most = FRAME.min(usize::try_from(core.log.segment_bytes() / 2).unwrap_or(FRAME));
        let appender = self.moved.get_or_insert_with(Appender::moving);
        let (mut places, mut waiting, mut frame) = (Vec::new(), Vec::new(), FrameWriter::new(0));
        let mut flush = |frame: &mut FrameWriter, waiting: &mut Vec<(u64, Location, usize)>| {
            let place = appender.append(&core.log, std::mem::replace(frame, FrameWriter::new(0)))?;
            for (arrival, location, offset) in waiting.drain(..) {
                let offset = u32::try_from(place.offset + offset as u64).unwrap_or(u32::MAX);
                places.push((arrival, Location { segment: place.segment, offset, ..location }));
            }
            Ok::<_, Error>(())
        };
        core.log
            .frames(segment, candidate.end, |from| {
                let stored = core
                    .file
                    .read(|txn| {
                        let locations = txn.open_table(schema::LOCATIONS)?;
                        let mut stored = Vec::new();
                        for item in from.items() {
                            let Item::Entry { facts, offset, record } = item? else { continue };
                            let here = u32::try_from(offset).ok();
                            let row =
                                locations.get(facts.arrival)?.map(|row| Location::from_row(row.value()));
                            let is_here =
                                |at: &Location| at.segment == candidate.number && Some(at.offset) == here;
                            if let Some(location) = row.filter(is_here) {
                                stored.push((facts.arrival, location, record));
                            }
                        }
                        Ok(stored)
                    })
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                for (arrival, location, record) in stored {
                    waiting.push((arrival, location, frame.record(record)));
                    if frame.len() >= most {
                        flush(&mut frame, &mut waiting)?;
                    }
                }
                Ok(())
            })
            .and_then(|()| if waiting.is_empty() { Ok(()) } else { flush(&mut frame, &mut waiting) })
            .map_err(fault)?;
        places.sort_unstable_by_key(|(arrival, _)| *arrival);
        Ok(places)
    }
}
