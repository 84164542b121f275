//! Handing a record on to a subscriber of this process, as the event that it was.
//!
//! An event needs a description that lives for ever. One is made, and leaked, for each place in a program that an event comes from: they are
//! as many as there are such places. Who invents ever new ones gets a common description from some number on.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::field::{FieldSet, Value};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata};
use tracing_core::callsite::{Callsite, Identifier};
use tracing_core::metadata::Kind;

use super::record::{Datum, Record};

/// So many places are told apart.
const PLACES: usize = 4096;
/// So many values an event can have, with the four that are added.
const VALUES: usize = 32;
/// What is said of each record besides its own fields.
const ADDED: [&str; 4] = ["message", "process.name", "process.pid", "target"];

/// A place that events come from.
struct Place {
    metadata: OnceLock<Metadata<'static>>,
}

impl Callsite for Place {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.metadata.get_or_init(|| {
            // Asked for before it is known, which nobody does: an event without fields.
            Metadata::new(
                "event",
                "procession",
                Level::TRACE,
                None,
                None,
                None,
                empty(),
                Kind::EVENT,
            )
        })
    }
}

static NOWHERE: Place = Place { metadata: OnceLock::new() };

fn empty() -> FieldSet {
    FieldSet::new(&[], Identifier(&NOWHERE))
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    level: u8,
    target: String,
    file: Option<String>,
    line: Option<u32>,
    names: Vec<String>,
}

static KNOWN: Mutex<Option<HashMap<Key, &'static Metadata<'static>>>> = Mutex::new(None);

fn describe(record: &Record) -> &'static Metadata<'static> {
    let names = record.fields.iter().take(VALUES - ADDED.len()).map(|(name, _)| name.clone());
    let mut key = Key {
        level: super::record::level::number(&record.level),
        target: record.target.clone(),
        file: record.file.clone(),
        line: record.line,
        names: names.collect(),
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if known.len() >= PLACES && !known.contains_key(&key) {
        // One for each level.
        key = Key { target: "procession".into(), file: None, line: None, names: vec![], ..key };
    }
    if let Some(metadata) = known.get(&key) {
        return metadata;
    }
    fn keep(text: &str) -> &'static str {
        String::leak(text.to_owned())
    }
    let names: Vec<&'static str> =
        ADDED.into_iter().chain(key.names.iter().map(|name| keep(name))).collect();
    let place: &'static Place = Box::leak(Box::new(Place { metadata: OnceLock::new() }));
    let metadata = place.metadata.get_or_init(|| {
        Metadata::new(
            "event of a process",
            keep(&key.target),
            record.level,
            key.file.as_deref().map(keep),
            key.line,
            None,
            FieldSet::new(Vec::leak(names), Identifier(place)),
            Kind::EVENT,
        )
    });
    known.insert(key, metadata);
    metadata
}

/// Gives `to` the event that was recorded, with `process.name`, `process.pid` and `target` among its fields.
pub(super) fn reissue(record: &Record, to: &Dispatch) {
    let metadata = describe(record);
    if !to.enabled(metadata) {
        return;
    }
    let fields: Vec<_> = metadata.fields().iter().collect();
    let Some(first) = fields.first() else { return };
    let others: Vec<Box<dyn Value>> = record
        .fields
        .iter()
        .map(|(_, datum)| -> Box<dyn Value> {
            match datum {
                Datum::Bool(value) => Box::new(*value),
                Datum::Signed(value) => Box::new(*value),
                Datum::Unsigned(value) => Box::new(*value),
                Datum::Float(value) => Box::new(*value),
                Datum::Text(value) => Box::new(value.clone()),
                Datum::Other(value) => Box::new(tracing::field::display(value.clone())),
            }
        })
        .collect();
    let message = format_args!("{}", record.message);
    let (process, target) = (record.process.as_str(), record.target.as_str());
    let added: [&dyn Value; ADDED.len()] = [&message, &process, &record.pid, &target];
    let values = added.into_iter().chain(others.iter().map(|value| &**value));
    // What is not filled in is no value, of whatever field.
    let mut all: [(_, Option<&dyn Value>); VALUES] = [(first, None); VALUES];
    for (place, (field, value)) in all.iter_mut().zip(fields.iter().zip(values)) {
        *place = (field, Some(value));
    }
    let values = metadata.fields().value_set(&all);
    to.event(&Event::new(metadata, &values));
}
