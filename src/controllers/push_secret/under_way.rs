//! A push under way: what it puts into a store is in no status yet, so that nobody would take it away again.

use crate::controllers::Ctx;
use crate::index::StoreId;
use crate::plan::push_secret::{Facts, stores};
use crate::queue::Priority;

/// A push. While it lives, none of its stores is let go.
pub(super) struct UnderWay<'c> {
    ctx: &'c Ctx,
    stores: Vec<StoreId>,
}

impl<'c> UnderWay<'c> {
    /// Begins one. `None`: one of the stores goes by now, and all is to be looked at anew.
    pub(super) fn begin(ctx: &'c Ctx, facts: &Facts) -> Option<Self> {
        // what is never taken away needs no store for that
        let deletes = facts.ps.deletes();
        let stores = if deletes { stores::targets(facts, &ctx.rules).unwrap_or_default() } else { Vec::new() };
        let begun = ctx.index_mut().begin_push(&stores);
        begun.then(|| Self { ctx, stores })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let freed = self.ctx.index_mut().end_push(&self.stores);
        for id in freed {
            self.ctx.stores.wake(id, Priority::Changed);
        }
    }
}
