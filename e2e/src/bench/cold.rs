//! The cold start: objects that exist before the operator starts, beside the floor that is measured just before.

use std::time::Duration;

use anyhow::{Context, Result};

use super::follow::{Follow, Object};
use super::load::{self, Item, SHARE};
use super::readings::{Reading, Work};
use super::table::{Table, Unit};
use super::{Bench, EXTERNAL_SECRETS, PATIENCE, SETTLE, SMALL, beside_us, floor, of, of_calls, step};
use crate::operator::{self, Operator};

/// What one cold start took.
pub struct ColdStart {
    /// The objects.
    pub items: Vec<Item>,
    /// When it was over, with the events that follow.
    pub end: Reading,
    floor: Duration,
    /// From the operator's exec to the last Ready.
    took: Duration,
    /// Until then.
    work: Work,
    /// Until `end`.
    settled: Work,
}

impl ColdStart {
    /// How many times the floor it took.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.took.as_secs_f64() / self.floor.as_secs_f64()
    }

    /// Adds its rows to the table.
    pub fn tell(&self, table: &mut Table) {
        table.at_most(3.0, "cold: API-server requests per ExternalSecret", self.work.requests / of(SMALL), Unit::None);
        table.note("cold: … writes, as the API server counts", self.work.writes_served / of(SMALL), Unit::None);
        table.note("cold: … with the events that follow", self.settled.requests / of(SMALL), Unit::None);
        let cpu = self.settled.cpu.as_secs_f64() * 1000.0 / of(SMALL);
        table.note("cold: CPU per ExternalSecret", cpu, Unit::Milliseconds);
        table.at_most(of(SMALL / SHARE), "cold: provider calls", of_calls(self.work), Unit::None);
        table.at_most(40.0, "cold: resident memory", self.end.memory.resident, Unit::Mebibytes);
    }
}

impl Bench {
    /// The floor, then the cold start of an operator with [`SMALL`] objects in namespaces of that prefix.
    pub(super) async fn cold_start(&mut self, set: &str) -> Result<ColdStart> {
        step(&format!("the floor: a bare client creates {SMALL} Secrets and patches {SMALL} statuses"));
        let floor = floor::measure(&format!("floor-{set}"), SMALL, &self.bare).await?;
        self.table.note("floor", floor.as_secs_f64(), Unit::Seconds);

        step(&format!("creating {SMALL} ExternalSecrets on {} remote keys", SMALL / SHARE));
        load::namespaces(set, &self.bare).await?;
        let items = load::items(set, 0..SMALL, &self.bare, &self.provider).await?;
        let client = self.control_plane.cluster().client.clone();
        let ready = self.ready.insert(Follow::start(client.clone(), EXTERNAL_SECRETS, Object::ready));

        step("cold start: from the operator's exec to the last Ready");
        let before = Reading::before(&client, &self.provider).await?;
        let options = operator::Options { binary: Some(beside_us()?), ..operator::Options::default() };
        let (cluster, endpoint) = (self.control_plane.cluster(), self.provider.endpoint());
        let operator = Operator::start(self.dir.clone(), &self.tools, cluster, endpoint, &options).await?;
        let operator = self.operator.insert(operator);
        let took = ready.count(SMALL, PATIENCE * 5).await? - operator.started();
        let work = Reading::take(operator, &client, &self.provider).await?.since(&before);
        tokio::time::sleep(SETTLE).await;
        let end = Reading::take(operator, &client, &self.provider).await?;
        let settled = end.since(&before);
        let start = ColdStart { items, end, floor, took, work, settled };
        self.table.note("cold start", took.as_secs_f64(), Unit::Seconds);
        self.table.note("cold start / floor", start.ratio(), Unit::None);
        Ok(start)
    }

    /// Ends the operator and deletes the objects in namespaces of that prefix.
    pub(super) async fn clear(&mut self, set: &str) -> Result<()> {
        self.operator.take().context("no operator runs")?.terminate(PATIENCE).await?;
        load::clear(set, &self.bare).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }
}
