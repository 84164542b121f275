//! What was logged, as it crosses between processes.

use std::fmt;
use std::time::SystemTime;

use tracing::Level;
use tracing::field::{Field, Visit};

/// Something that a process has logged.
///
/// Its text, as [`log_to_stderr`](super::log_to_stderr) writes it: `[INFO/Process-1 4711] message field=value`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// When, by the clock of the machine.
    pub time: SystemTime,
    /// How important it is.
    #[serde(with = "level")]
    pub level: Level,
    /// What it is about: the module, unless the event says otherwise.
    pub target: String,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The text.
    pub message: String,
    /// The other fields of the event, in their order.
    pub fields: Vec<(String, Datum)>,
    /// The name of the process.
    pub process: String,
    /// Its process id.
    pub pid: u32,
    /// The name of the thread, if it has one.
    pub thread: Option<String>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Datum {
    /// `true` or `false`.
    Bool(bool),
    /// A number with a sign.
    Signed(i64),
    /// A number without one.
    Unsigned(u64),
    /// A number with a point.
    Float(f64),
    /// A text.
    Text(String),
    /// Anything else, as its `Debug` writes it.
    Other(String),
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Bool(value) => value.fmt(f),
            Datum::Signed(value) => value.fmt(f),
            Datum::Unsigned(value) => value.fmt(f),
            Datum::Float(value) => value.fmt(f),
            Datum::Text(value) => fmt::Debug::fmt(value, f),
            Datum::Other(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{} {}] {}", self.level, self.process, self.pid, self.message)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl Visit for Record {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Datum::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Datum::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Datum::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Datum::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.add(field, Datum::Text(value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, Datum::Other(text));
        }
    }
}

impl Record {
    fn add(&mut self, field: &Field, value: Datum) {
        self.fields.push((field.name().to_owned(), value));
    }
}

/// A level on the way is a number, the greater the more there is to read.
pub(super) mod level {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use tracing::Level;

    const ALL: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

    pub fn number(level: &Level) -> u8 {
        ALL.iter().position(|known| known == level).unwrap_or(0) as u8
    }

    pub fn from_number(number: u8) -> Option<Level> {
        ALL.get(usize::from(number)).copied()
    }

    pub fn serialize<S: Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
        number(level).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
        let number = u8::deserialize(deserializer)?;
        from_number(number).ok_or_else(|| D::Error::custom("no level of importance"))
    }
}
