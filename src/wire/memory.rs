//! Memory that the connections of one thread share.

use std::cell::RefCell;
use std::rc::Rc;

use crate::wire::hpack::Fields;

/// Capacity of a new write buffer, in octets.
const CAPACITY_MIN: usize = 4 * 1024;
/// Maximum capacity of a recycled buffer, in octets.
const RECYCLED_CAPACITY_MAX: usize = 32 * 1024;
/// Maximum number of recycled buffers.
const RECYCLED_MAX: usize = 4;

/// Buffers of emptied write buffers, and one empty field list: an idle connection holds neither.
///
/// One value belongs to one thread; [`Connection`](crate::wire::connection::Connection)s share it.
#[derive(Debug, Default)]
pub struct ThreadMemory {
    /// The buffer recycled last is reused first, since it is in the processor's cache.
    recycled: RefCell<Vec<Vec<u8>>>,
    empty_fields: Rc<Fields>,
}

impl ThreadMemory {
    /// A recycled buffer, or a new one.
    pub(in crate::wire) fn take_buffer(&self) -> Vec<u8> {
        let recycled = self.recycled.borrow_mut().pop();
        recycled.unwrap_or_else(|| Vec::with_capacity(CAPACITY_MIN))
    }

    /// Keeps the memory of an emptied buffer for the next [`ThreadMemory::take_buffer`].
    pub(in crate::wire) fn recycle(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() == 0 || buffer.capacity() > RECYCLED_CAPACITY_MAX {
            return;
        }
        let mut recycled = self.recycled.borrow_mut();
        if recycled.len() < RECYCLED_MAX {
            recycled.push(buffer);
        }
    }

    /// The field list of a connection without a header block.
    pub(in crate::wire) fn empty_fields(&self) -> Rc<Fields> {
        Rc::clone(&self.empty_fields)
    }
}
