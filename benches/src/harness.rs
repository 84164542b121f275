//! Measures two sides in turns.
//!
//! First each side is sized: the number of operations that last about as long as one batch should. Then come the
//! rounds, and each runs both sides, the other one first each time. What disturbs the machine for longer than a
//! round thus disturbs both. What is reported: of the nanoseconds the medians over the rounds, of the rounds' own
//! ratios their median, and as the spread their interquartile range, relative to that median. (On a machine that is
//! now fast and now slow, the quotient of the two medians may compare a fast ours with a slow peer.)

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How often both sides run.
    rounds: usize,
    /// What one run of one side lasts, about.
    batch: Duration,
}

impl Plan {
    /// The plan for a claim, or a quick one for a look.
    pub fn new(quick: bool) -> Self {
        match quick {
            false => Self { rounds: 75, batch: Duration::from_millis(5) },
            true => Self { rounds: 9, batch: Duration::from_millis(3) },
        }
    }

    /// A fifth of the rounds: for sides that say how long one run takes.
    pub fn rare(self) -> Self {
        Self { rounds: self.rounds / 5, ..self }
    }

    /// A third of the rounds, each ten times as long: for rows whose runners the scheduler lets take turns, some
    /// milliseconds each.
    pub fn longer(self) -> Self {
        Self { rounds: self.rounds / 3, batch: self.batch * 10 }
    }
}

/// What one run of a side says: a side may round the number of operations that it was asked for.
#[derive(Clone, Copy)]
pub struct Timing {
    /// Operations that were run.
    pub ops: u64,
    /// The time that all of them took.
    pub took: Duration,
}

impl Timing {
    fn ns_per_op(self) -> f64 {
        self.took.as_nanos() as f64 / self.ops as f64
    }
}

/// One row of the scoreboard.
pub struct Row {
    /// Family, dot, what is measured.
    pub name: &'static str,
    /// Whom ours is compared with.
    pub peer: &'static str,
    /// The largest ratio that is good enough.
    pub target: f64,
    /// What a reader has to know about it.
    pub note: &'static str,
    /// Prepares both sides and calls [`duel`].
    pub run: fn(Plan) -> Result<Duel>,
}

impl Row {
    /// Whether this row is meant by `family`: the part before a dot, or the whole name.
    pub fn belongs_to(&self, family: &str) -> bool {
        self.name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Runs the row.
    pub fn measure(&self, plan: Plan) -> Result<Score> {
        let duel = (self.run)(plan)?;
        Ok(Score {
            row: self.name.into(),
            ours_ns: duel.ours_ns,
            peer: self.peer.into(),
            peer_ns: duel.peer_ns,
            ratio: duel.ratio,
            spread: duel.spread,
            target: self.target,
            note: self.note.into(),
        })
    }
}

/// What a duel measured: medians over its rounds.
pub struct Duel {
    ours_ns: f64,
    peer_ns: f64,
    ratio: f64,
    spread: f64,
}

/// A measured row, as it stands in the table and in the JSON.
#[derive(Serialize, Deserialize)]
pub struct Score {
    pub row: String,
    pub ours_ns: f64,
    pub peer: String,
    pub peer_ns: f64,
    pub ratio: f64,
    pub spread: f64,
    pub target: f64,
    pub note: String,
}

/// The heads of the table's columns. `width` is that of the first.
pub fn header(width: usize) -> String {
    format!(
        "{:width$}  {:>12}  {:>12}  {:>7}  {:>7}  {:>7}      peer",
        "row", "ours ns", "peer ns", "ratio", "target", "spread"
    )
}

impl Score {
    /// This row of the table.
    pub fn line(&self, width: usize) -> String {
        let verdict = if self.ratio <= self.target { "ok" } else { "over" };
        format!(
            "{:width$}  {:>12.1}  {:>12.1}  {:>7.3}  {:>7.2}  {:>6.1}%  {verdict:>4}  {}",
            self.row,
            self.ours_ns,
            self.peer_ns,
            self.ratio,
            self.target,
            self.spread * 100.0,
            self.peer
        )
    }
}

/// A peer that this machine does not have. Its rows are left out.
#[derive(Debug)]
pub struct Missing(pub String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Runs both sides in turns, as the plan says. A side runs (about) the number of operations that it is given.
pub fn duel(
    plan: Plan,
    mut ours: impl FnMut(u64) -> Result<Timing>,
    mut peer: impl FnMut(u64) -> Result<Timing>,
) -> Result<Duel> {
    let ours_ops = size(plan, &mut ours).map_err(|error| format!("ours: {error}"))?;
    // A missing peer must still be known as one, so the error is passed on as it is.
    let peer_ops = size(plan, &mut peer)?;
    compare_values(plan, || Ok(ours(ours_ops)?.ns_per_op()), || Ok(peer(peer_ops)?.ns_per_op()))
}

/// Runs both sides in turns and compares what they return.
pub fn compare_values(
    plan: Plan,
    mut ours: impl FnMut() -> Result<f64>,
    mut peer: impl FnMut() -> Result<f64>,
) -> Result<Duel> {
    let (mut ours_ns, mut peer_ns, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let (a, b);
        if round % 2 == 0 {
            a = ours()?;
            b = peer()?;
        } else {
            b = peer()?;
            a = ours()?;
        }
        ours_ns.push(a);
        peer_ns.push(b);
        ratios.push(a / b);
    }
    let ratio = quantile(&mut ratios, 0.5);
    let spread = (quantile(&mut ratios, 0.75) - quantile(&mut ratios, 0.25)) / ratio;
    Ok(Duel {
        ours_ns: quantile(&mut ours_ns, 0.5),
        peer_ns: quantile(&mut peer_ns, 0.5),
        ratio,
        spread,
    })
}

/// How many operations of this side last about one batch. Serves as its warm-up as well.
fn size(plan: Plan, side: &mut impl FnMut(u64) -> Result<Timing>) -> Result<u64> {
    let enough = |timing: Timing| timing.took * 4 >= plan.batch;
    let mut ops = 16;
    loop {
        let timing = side(ops)?;
        if enough(timing) {
            // From a quarter of a batch on, the rest is a rule of three.
            let wanted = plan.batch.as_nanos() as f64 / timing.ns_per_op();
            ops = (wanted as u64).max(1);
            // Somebody may have got in between, and what seems slow then is given too little to do.
            if enough(side(ops)?) {
                return Ok(ops);
            }
        }
        ops = ops.saturating_mul(4);
    }
}

/// The value below which this share of the values lies, interpolated. Sorts them.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&mut values, 0.5), 2.5);
        assert_eq!(quantile(&mut values, 0.0), 1.0);
        assert_eq!(quantile(&mut values, 1.0), 4.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn a_side_twice_as_slow_has_the_ratio_two() -> Result<()> {
        let side = |ns| move |ops| Ok(Timing { ops, took: Duration::from_nanos(ops * ns) });
        let duel = duel(Plan::new(true), side(20), side(10))?;
        assert_eq!((duel.ours_ns, duel.peer_ns), (20.0, 10.0));
        assert_eq!((duel.ratio, duel.spread), (2.0, 0.0));
        Ok(())
    }

    #[test]
    fn families_end_at_a_dot() {
        let row = Row {
            name: "rtt.spin.iceoryx2",
            peer: "",
            target: 1.0,
            note: "",
            run: |_| Err("".into()),
        };
        assert!(row.belongs_to("rtt") && row.belongs_to("rtt.spin") && row.belongs_to(row.name));
        assert!(!row.belongs_to("rt") && !row.belongs_to("rtt.spi") && !row.belongs_to("lock"));
    }
}
