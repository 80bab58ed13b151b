//! The region: memory that the driver and the device share, and the allocator of its pages.
//!
//! A [`Region`] is a memory file that is mapped once, so that it can be handed to another process, and that can
//! neither shrink nor grow, so that no access to it can fault. Memory of it is named by [`Extent`]s and is only ever
//! touched by volatile or atomic access, or by the kernel: the other side may change it at any moment.
//!
//! Every function here checks that an extent lies in the region. Whether someone *may* use an extent is not for this
//! file to judge: see [`lease`](crate::lease).

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fs::File,
    hash::{BuildHasherDefault, Hasher},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion, VolatileMemory, VolatileSlice,
};

use crate::payload::Payload;

/// Bytes in a page: the unit of allocation.
pub const PAGE: u32 = 4096;

/// A run of bytes in a region: the only way in which payload is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the region's start.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

impl Extent {
    /// The first byte behind it, if there can be one.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.len.into())
    }
}

/// Why the region refuses an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// It is empty, overflows, or reaches past the region's end.
    #[error("{} bytes at {} are no part of the region", .0.len, .0.offset)]
    OutOfRange(Extent),
}

/// Counters of a region, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionStatistics {
    /// Pages that are allocated now.
    pub allocated_pages: u64,
    /// The most pages that were allocated at a time.
    pub peak_pages: u64,
    /// Allocations made.
    pub allocations: u64,
    /// Allocations refused for want of space.
    pub refused: u64,
    /// Bytes copied out and in by [`Region::read`] and [`Region::write`].
    pub copied_bytes: u64,
}

/// A mapping that the host owns and shares with whom it chooses.
#[derive(Debug)]
pub struct Region {
    memory: GuestMemoryMmap,
    /// The same mapping, without the search for it among several.
    mapping: Arc<MmapRegion>,
    size: u64,
    pages: Mutex<Pages>,
    copied: AtomicU64,
}

impl Region {
    /// A region of `size` bytes, rounded up to whole pages. They are zero, and take up memory once they are used.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a size of 0, or of 2^31 pages and more; else what the system says.
    pub fn new(size: u64) -> io::Result<Arc<Self>> {
        let pages = size.div_ceil(PAGE.into());
        let count = u32::try_from(pages).ok().filter(|count| (1..1 << 31).contains(count));
        let count = count.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a region of that size"))?;
        let size = pages * u64::from(PAGE);
        let length = usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;

        let file = File::from(memfd_create("ninering-region", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(size)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, 0), length).map_err(io::Error::other)?;
        let mapping = Arc::new(mapping);
        let mapped = GuestRegionMmap::with_arc(Arc::clone(&mapping), GuestAddress(0))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let memory = GuestMemoryMmap::from_regions(vec![mapped]).map_err(io::Error::other)?;
        Ok(Arc::new(Self { memory, mapping, size, pages: Mutex::new(Pages::new(count)), copied: AtomicU64::new(0) }))
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The mapping as rust-vmm's crates want it: one piece, at address 0.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The mapping as one piece, for access at offsets that are known to be good.
    pub(crate) fn mapping(&self) -> &MmapRegion {
        &self.mapping
    }

    /// Takes `len` bytes at the start of a page; they may hold what their last user left there. The rest of the last
    /// page is nobody else's either. `None` where `len` is 0 or no run of pages is long enough.
    pub fn allocate(&self, len: u32) -> Option<Extent> {
        let pages = pages_of(len);
        let first = self.pages.lock().allocate(pages)?;
        Some(Extent { offset: u64::from(first) * u64::from(PAGE), len })
    }

    /// Gives an allocation back, whole. What is not an allocation is left alone.
    ///
    /// # Panics
    /// With debug assertions, where it is not an allocation: that is a mistake in the host.
    pub fn free(&self, allocation: Extent) {
        let freed = allocation.offset.is_multiple_of(PAGE.into())
            && u32::try_from(allocation.offset / u64::from(PAGE))
                .is_ok_and(|first| self.pages.lock().free(first, pages_of(allocation.len)));
        debug_assert!(freed, "{allocation:?} is not allocated");
    }

    /// The memory of an extent.
    ///
    /// # Errors
    /// [`RegionError::OutOfRange`].
    pub fn slice(&self, extent: Extent) -> Result<VolatileSlice<'_>, RegionError> {
        let error = RegionError::OutOfRange(extent);
        if extent.len == 0 {
            return Err(error);
        }
        let offset = usize::try_from(extent.offset).map_err(|_| error)?;
        self.mapping.get_slice(offset, extent.len as usize).map_err(|_| error)
    }

    /// The memory of several extents, one behind the other.
    ///
    /// # Errors
    /// [`RegionError::OutOfRange`] with the first extent that is.
    pub fn payload(&self, extents: &[Extent]) -> Result<Payload<'_>, RegionError> {
        let mut payload = Payload::empty();
        for extent in extents {
            payload.push(self.slice(*extent)?);
        }
        Ok(payload)
    }

    /// Copies the first bytes of an extent to `target`, as many as fit, and tells how many.
    ///
    /// # Errors
    /// [`RegionError::OutOfRange`].
    pub fn read(&self, source: Extent, target: &mut [u8]) -> Result<usize, RegionError> {
        let copied = self.slice(source)?.copy_to(target);
        self.copied.fetch_add(copied as u64, Ordering::Relaxed);
        Ok(copied)
    }

    /// Copies `bytes` to the region at `offset`.
    ///
    /// # Errors
    /// [`RegionError::OutOfRange`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), RegionError> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let target = self.slice(Extent { offset, len })?;
        if target.len() < bytes.len() {
            return Err(RegionError::OutOfRange(Extent { offset, len }));
        }
        target.copy_from(bytes);
        self.copied.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Fills an extent with zeros.
    ///
    /// # Errors
    /// [`RegionError::OutOfRange`].
    pub fn clear(&self, extent: Extent) -> Result<(), RegionError> {
        const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
        let mut rest = self.slice(extent)?;
        while !rest.is_empty() {
            let cleared = rest.len().min(ZEROS.len());
            rest.copy_from(&ZEROS[..cleared]);
            rest = rest.offset(cleared).map_err(|_| RegionError::OutOfRange(extent))?;
        }
        Ok(())
    }

    /// Gives the physical memory of all free pages back to the system; they read as zero then. Tells how many bytes
    /// were covered, whether or not they took up memory.
    ///
    /// # Errors
    /// What the system says; the pages before were trimmed.
    pub fn trim(&self) -> io::Result<u64> {
        // The lock is what keeps a page from being allocated and written to while it is emptied. It is let go
        // between pieces, so that who allocates waits for one of them at the most.
        const PIECE: u32 = 512;
        self.pages.lock().uncache();
        let Some(file) = self.mapping.file_offset() else { return Ok(0) };
        let (mut from, mut trimmed) = (0, 0);
        loop {
            let pages = self.pages.lock();
            let Some((first, count)) = pages.free_from(from) else { return Ok(trimmed) };
            let count = count.min(PIECE);
            let (offset, len) = (u64::from(first) * u64::from(PAGE), u64::from(count) * u64::from(PAGE));
            fallocate(file.file(), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?;
            trimmed += len;
            from = first + count;
        }
    }

    /// The counters.
    pub fn statistics(&self) -> RegionStatistics {
        let copied_bytes = self.copied.load(Ordering::Relaxed);
        RegionStatistics { copied_bytes, ..self.pages.lock().statistics }
    }
}

/// How many pages hold `len` bytes.
pub(crate) fn pages_of(len: u32) -> u32 {
    len.div_ceil(PAGE)
}

/// Which pages are free.
///
/// Runs that were freed lately wait in stacks by length, to be taken again in no time while their memory is still in
/// the processor's caches. All else is in a map of runs, where neighbours are joined; an allocation takes the first
/// that is long enough.
#[derive(Debug)]
struct Pages {
    total: u32,
    /// Lengths of allocated runs, by their first page.
    allocated: HashMap<u32, u32, BuildHasherDefault<NumberHasher>>,
    /// Lengths of free runs, by their first page; no two of them touch.
    runs: BTreeMap<u32, u32>,
    /// First pages of runs, by their length.
    cache: HashMap<u32, Stack, BuildHasherDefault<NumberHasher>>,
    cached_pages: u32,
    statistics: RegionStatistics,
}

/// The longest run that is cached, in pages: a little more than a message of 1 MiB.
const LONGEST_CACHED: u32 = 260;

/// A few runs of one length.
#[derive(Clone, Copy, Debug, Default)]
struct Stack {
    count: u32,
    firsts: [u32; 7],
}

impl Pages {
    fn new(total: u32) -> Self {
        Self {
            total,
            allocated: HashMap::default(),
            runs: BTreeMap::from([(0, total)]),
            cache: HashMap::default(),
            cached_pages: 0,
            statistics: RegionStatistics::default(),
        }
    }

    fn allocate(&mut self, pages: u32) -> Option<u32> {
        if pages == 0 {
            return None;
        }
        let Some(first) = self.take(pages) else {
            self.statistics.refused += 1;
            return None;
        };
        self.allocated.insert(first, pages);
        let statistics = &mut self.statistics;
        statistics.allocations += 1;
        statistics.allocated_pages += u64::from(pages);
        statistics.peak_pages = statistics.peak_pages.max(statistics.allocated_pages);
        Some(first)
    }

    fn take(&mut self, pages: u32) -> Option<u32> {
        if let Some(stack) = self.cache.get_mut(&pages)
            && let Some(count) = stack.count.checked_sub(1)
        {
            stack.count = count;
            self.cached_pages -= pages;
            return Some(stack.firsts[count as usize]);
        }
        if let Some(first) = self.take_from_runs(pages) {
            return Some(first);
        }
        if self.cached_pages == 0 {
            return None;
        }
        self.uncache();
        self.take_from_runs(pages)
    }

    fn take_from_runs(&mut self, pages: u32) -> Option<u32> {
        let (&first, &length) = self.runs.iter().find(|&(_, &length)| length >= pages)?;
        self.runs.remove(&first);
        if length > pages {
            self.runs.insert(first + pages, length - pages);
        }
        Some(first)
    }

    /// Was it allocated, with this length?
    fn free(&mut self, first: u32, pages: u32) -> bool {
        match self.allocated.entry(first) {
            Entry::Occupied(run) if *run.get() == pages => run.remove(),
            _ => return false,
        };
        self.statistics.allocated_pages -= u64::from(pages);
        // No more than a quarter of the region is kept out of the reach of longer allocations.
        if pages <= LONGEST_CACHED && self.cached_pages + pages <= self.total / 4 {
            let stack = self.cache.entry(pages).or_default();
            if let Some(slot) = stack.firsts.get_mut(stack.count as usize) {
                *slot = first;
                stack.count += 1;
                self.cached_pages += pages;
                return true;
            }
        }
        self.put_in_runs(first, pages);
        true
    }

    fn put_in_runs(&mut self, mut first: u32, mut pages: u32) {
        if let Some((&before, &length)) = self.runs.range(..first).next_back()
            && before + length == first
        {
            self.runs.remove(&before);
            first = before;
            pages += length;
        }
        if let Some(length) = self.runs.remove(&(first + pages)) {
            pages += length;
        }
        self.runs.insert(first, pages);
    }

    /// Joins what is cached with its neighbours.
    fn uncache(&mut self) {
        for (pages, stack) in std::mem::take(&mut self.cache) {
            for first in &stack.firsts[..stack.count as usize] {
                self.put_in_runs(*first, pages);
            }
        }
        self.cached_pages = 0;
    }

    /// The first free run that reaches past `page`, from there on: its first page and its length.
    fn free_from(&self, page: u32) -> Option<(u32, u32)> {
        if let Some((&first, &length)) = self.runs.range(..page).next_back()
            && first + length > page
        {
            return Some((page, first + length - page));
        }
        self.runs.range(page..).next().map(|(&first, &length)| (first, length))
    }
}

/// Hashes numbers that the host chooses, so that nobody can make them collide on purpose.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        // Fibonacci hashing. The table looks at the highest and at the lowest bits.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
