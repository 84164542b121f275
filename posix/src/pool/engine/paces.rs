//! How long the functions that a crew runs take, as they did when they were last run many times.

use std::sync::{Mutex, PoisonError};

use super::work::Name;

/// Of so many functions it is remembered.
const MOST: usize = 16;

/// Picoseconds for one call, the function that was last noted at the end.
#[derive(Default)]
pub(super) struct Paces(Mutex<Vec<(Name, u64)>>);

impl Paces {
    /// Of this function, if it is known.
    pub(super) fn get(&self, name: Name) -> Option<u64> {
        let paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.iter().find(|(known, _)| *known == name).map(|(_, pace)| *pace)
    }

    /// Notes it, instead of the one that was noted the longest time ago if there are too many.
    pub(super) fn set(&self, name: Name, pace: u64) {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.retain(|(known, _)| *known != name);
        if paces.len() == MOST {
            paces.remove(0);
        }
        paces.push((name, pace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let paces = Paces::default();
        let name = |offset| Name { offset, check: 0 };
        (0..20).for_each(|offset| paces.set(name(offset), u64::from(offset)));
        paces.set(name(4), 40);
        assert_eq!((paces.get(name(4)), paces.get(name(19))), (Some(40), Some(19)));
        assert_eq!((paces.get(name(3)), paces.get(name(5))), (None, Some(5)));
    }
}
