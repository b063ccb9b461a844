//! Places for what is under way at the same time, with a share for each app: none keeps the others out, or the owner.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::problem::{Kind, Problem};

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For all apps together, and as many again for the owner.
    pub(super) in_all: usize,
    /// For one app.
    pub(super) of_app: usize,
}

/// Places of one sort.
#[derive(Debug)]
pub(super) struct Places {
    what: &'static str,
    bounds: Bounds,
    /// How many each app has; the empty name is the owner's.
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
}

fn lock(taken: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    pub(super) fn new(what: &'static str, bounds: Bounds) -> Self {
        Self { what, bounds, taken: Arc::default() }
    }

    /// A place for an app, or for the owner, whose name is empty.
    pub(super) fn take(&self, name: &str) -> Result<Place, Problem> {
        let mut taken = lock(&self.taken);
        let own = taken.get(name).copied().unwrap_or_default();
        let of_apps: usize =
            taken.iter().filter(|(name, _)| !name.is_empty()).map(|(_, places)| places).sum();
        let (has, most) = match name {
            "" => (own, self.bounds.in_all),
            _ if own >= self.bounds.of_app => (own, self.bounds.of_app),
            _ => (of_apps, self.bounds.in_all),
        };
        if has >= most {
            let detail = format!("{most} {} are under way", self.what);
            return Err(Problem::new(Kind::Busy, detail, "try again when some are over"));
        }
        taken.insert(name.to_owned(), own + 1);
        Ok(Place { taken: Arc::clone(&self.taken), name: name.to_owned() })
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        lock(&self.taken).values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(places) = taken.get_mut(&self.name) {
            *places -= 1;
            if *places == 0 {
                taken.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_app_keeps_others_out_and_all_together_not_the_owner() {
        let places = Places::new("streams", Bounds { in_all: 5, of_app: 3 });
        let mut held: Vec<Place> = (0..3).map(|_| places.take("greedy").unwrap()).collect();
        assert_eq!(places.take("greedy").unwrap_err().kind(), Kind::Busy);
        held.extend((0..2).map(|_| places.take("other").unwrap()));
        assert!(places.take("third").is_err(), "all are taken");
        held.extend((0..5).map(|_| places.take("").unwrap()));
        assert!(places.take("").is_err());
        assert_eq!(places.taken(), 10);
        held.remove(0);
        let back = places.take("third").unwrap();
        drop((held, back));
        assert_eq!(places.taken(), 0);
    }
}
