//! The other side of a store: what those who put wait for.

use procession_core::queue::StoreRoom;
use procession_core::region::Member;
use procession_core::wait::Waitable;

use super::message::Message;
use super::stock::Stock;
use crate::wait::sealed::Source;

/// Ready when there is room in a store, or it is closed.
pub(super) struct StockRoom<T> {
    room: StoreRoom<'static, Message>,
    // Keeps the store.
    stock: Stock<T>,
}

impl<T> StockRoom<T> {
    pub(super) fn of(stock: &Stock<T>) -> Self {
        Self { room: stock.store().room(), stock: stock.clone() }
    }
}

impl<T> Clone for StockRoom<T> {
    fn clone(&self) -> Self {
        Self::of(&self.stock)
    }
}

impl<T> std::fmt::Debug for StockRoom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Room").field(&self.stock).finish()
    }
}

impl<T: 'static> Source for StockRoom<T> {
    fn source(&self) -> &dyn Waitable {
        &self.room
    }

    fn me(&self) -> Member<'static> {
        self.stock.me()
    }
}
