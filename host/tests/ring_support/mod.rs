//! What the tests of the ring share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use ninering::{
    lease::Leases,
    region::{Extent, Region},
    virtqueue::{DeviceQueue, Driver, Features, Layout},
};

/// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// A queue, and a component's leases.
pub(crate) struct Ring {
    pub(crate) region: Arc<Region>,
    pub(crate) leases: Leases,
    pub(crate) driver: Driver,
}

impl Ring {
    pub(crate) fn new(size: u16) -> (Self, DeviceQueue) {
        Self::with(size, Features::VERSION_1)
    }

    pub(crate) fn with(size: u16, features: Features) -> (Self, DeviceQueue) {
        let region = Region::new(16 << 20).expect("a region");
        let (driver, device) = Driver::with_features(Arc::clone(&region), size, features).expect("a queue");
        let leases = Leases::new(Arc::clone(&region), 4 << 20);
        (Self { region, leases, driver }, device)
    }

    /// A buffer that the component may use.
    pub(crate) fn buffer(&mut self, len: u32) -> Extent {
        self.leases.allocate(len).expect("a buffer")
    }

    pub(crate) fn bytes(&self, extent: Extent) -> Vec<u8> {
        let mut bytes = vec![0; extent.len as usize];
        self.region.read(extent, &mut bytes).expect("in range");
        bytes
    }
}

pub(crate) fn extent(offset: u64, len: u32) -> Extent {
    Extent { offset, len }
}

/// The driver's pen, without the driver's care.
#[derive(Clone)]
pub(crate) struct RawRing {
    pub(crate) region: Arc<Region>,
    pub(crate) layout: Layout,
}

impl RawRing {
    pub(crate) fn new(size: u16) -> (Self, DeviceQueue) {
        Self::with(size, Features::VERSION_1)
    }

    pub(crate) fn with(size: u16, features: Features) -> (Self, DeviceQueue) {
        let region = Region::new(1 << 20).expect("a region");
        let base = region.allocate(Layout::new(0, size).end() as u32).expect("space for the ring").offset;
        let layout = Layout::new(base, size);
        let device = DeviceQueue::new(Arc::clone(&region), layout, features).expect("a queue");
        (Self { region, layout }, device)
    }

    pub(crate) fn of(device: &DeviceQueue) -> Self {
        Self { region: Arc::clone(device.region()), layout: device.layout() }
    }

    pub(crate) fn descriptor(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        self.descriptor_at(self.layout.descriptor(index), addr, len, flags, next);
    }

    pub(crate) fn descriptor_at(&self, place: u64, addr: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.write(place, &bytes);
    }

    /// The address in a descriptor of the ring, and its flags.
    pub(crate) fn read_descriptor(&self, index: u16) -> (u64, u16) {
        let mut bytes = [0; 16];
        self.region.read(extent(self.layout.descriptor(index), 16), &mut bytes).expect("in range");
        let [a, b, c, d, e, f, g, h, _, _, _, _, i, j, _, _] = bytes;
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u16::from_le_bytes([i, j]))
    }

    /// Makes the chain at `head` available as the entry that `idx` counts.
    pub(crate) fn publish(&self, idx: u16, head: u16) {
        self.write(self.layout.avail_entry(idx), &head.to_le_bytes());
        self.set_avail_idx(idx.wrapping_add(1));
    }

    pub(crate) fn set_avail_idx(&self, idx: u16) {
        self.write(self.layout.avail_idx(), &idx.to_le_bytes());
    }

    pub(crate) fn used_idx(&self) -> u16 {
        let mut bytes = [0; 2];
        self.region.read(extent(self.layout.used_idx(), 2), &mut bytes).expect("in range");
        u16::from_le_bytes(bytes)
    }

    /// What the device returned as the entry that `idx` counts.
    pub(crate) fn used(&self, idx: u16) -> (u32, u32) {
        let mut bytes = [0; 8];
        self.region.read(extent(self.layout.used_entry(idx), 8), &mut bytes).expect("in range");
        let [a, b, c, d, e, f, g, h] = bytes;
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    }

    /// Returns a chain as a device that may lie.
    pub(crate) fn forge_used(&self, idx: u16, id: u32, len: u32) {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&id.to_le_bytes());
        bytes[4..].copy_from_slice(&len.to_le_bytes());
        self.write(self.layout.used_entry(idx), &bytes);
        self.write(self.layout.used_idx(), &idx.wrapping_add(1).to_le_bytes());
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.region.write(offset, bytes).expect("in range");
    }
}
