//! Bytes of one stream that wait to be read or sent, in memory that is held only while they do.

use std::collections::VecDeque;

use crate::net::stream::Buffer;

/// First in, first out. Empty, it holds no memory.
#[derive(Default)]
pub struct Queue {
    bytes: VecDeque<u8>,
}

/// Memory that queues have given back, for the next one that needs much.
#[derive(Default)]
pub struct Spares {
    blocks: Vec<VecDeque<u8>>,
}

impl Queue {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds bytes at the end. The caller knows the limit.
    pub fn push(&mut self, bytes: &[u8], spares: &mut Spares) {
        if self.bytes.capacity() == 0 && bytes.len() >= MUCH {
            self.bytes = spares.blocks.pop().unwrap_or_default();
        }
        self.bytes.extend(bytes);
    }

    /// Moves at most `most` bytes to where they fit and says how many.
    pub fn pop(&mut self, into: &mut Buffer, most: usize, spares: &mut Spares) -> usize {
        let most = most.min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let first = &front[..front.len().min(most)];
        let mut count = into.append(first);
        if count == first.len() {
            count += into.append(&back[..most - count]);
        }
        self.bytes.drain(..count);
        if self.bytes.is_empty() {
            self.clear(spares);
        }
        count
    }

    /// Forgets what waits; how much that was.
    pub fn clear(&mut self, spares: &mut Spares) -> usize {
        let mut block = std::mem::take(&mut self.bytes);
        let count = block.len();
        if (MUCH..=BLOCK).contains(&block.capacity()) && spares.blocks.len() < MAX_SPARES {
            block.clear();
            spares.blocks.push(block);
        }
        count
    }
}

/// From this many bytes at once on, memory is worth being kept for others.
const MUCH: usize = 4 * 1024;
/// Most bytes of a block that is kept.
const BLOCK: usize = 512 * 1024;
/// Most blocks that are kept.
const MAX_SPARES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_however_they_went_in() {
        let (mut queue, mut spares, mut buffer) = (Queue::default(), Spares::default(), Buffer::new(100));
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for round in 0..200_usize {
            let bytes: Vec<u8> = (0..round * 37 % 150).map(|at| (at + round) as u8).collect();
            queue.push(&bytes, &mut spares);
            said.extend(bytes);
            let count = queue.pop(&mut buffer, round % 90, &mut spares);
            assert_eq!(buffer.bytes().len(), count);
            heard.extend_from_slice(buffer.bytes());
            buffer.consume(count);
        }
        while !queue.is_empty() {
            let count = queue.pop(&mut buffer, usize::MAX, &mut spares);
            heard.extend_from_slice(buffer.bytes());
            buffer.consume(count);
        }
        assert_eq!(heard, said);
    }

    #[test]
    fn an_empty_queue_holds_nothing_and_few_spares_are_kept() {
        let mut spares = Spares::default();
        let mut queues: Vec<Queue> = (0..100).map(|_| Queue::default()).collect();
        for queue in &mut queues {
            queue.push(&[1; MUCH], &mut spares);
        }
        for queue in &mut queues {
            assert_eq!(queue.clear(&mut spares), MUCH);
            assert_eq!(queue.bytes.capacity(), 0);
        }
        assert_eq!(spares.blocks.len(), MAX_SPARES);
        queues[0].push(&[1; MUCH], &mut spares);
        assert_eq!(spares.blocks.len(), MAX_SPARES - 1);
        queues[1].push(&vec![1; BLOCK + 1], &mut Spares::default());
        queues[1].clear(&mut spares);
        assert_eq!(spares.blocks.len(), MAX_SPARES - 1, "too large to be kept");
    }
}
