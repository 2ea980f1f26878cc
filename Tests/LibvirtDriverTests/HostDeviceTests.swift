import Model
import Testing
import XML

@testable import LibvirtDriver

/// Devices of a machine with an Intel 82576 as libvirt's own tests have them: `pci_0000_02_10_7_sriov.xml` and
/// `pci_8086_10c9_sriov_pf.xml` in tests/nodedevschemadata of github.com/libvirt/libvirt, shortened to what is read.
@Suite("Devices of the host")
struct HostDeviceTests {
    static let virtual = """
        <device><name>pci_0000_02_10_7</name><capability type='pci'>
        <domain>0</domain><bus>2</bus><slot>16</slot><function>7</function>
        <product id='0x10ca'>82576 Virtual Function</product><vendor id='0x8086'>Intel Corporation</vendor>
        <capability type='phys_function'><address domain='0x0000' bus='0x02' slot='0x00' function='0x1'/></capability>
        <numa node='0'/></capability></device>
        """
    private static let physical = """
        <device><name>pci_8086_10c9</name><capability type='pci'>
        <domain>0</domain><bus>2</bus><slot>0</slot><function>1</function>
        <product id='0x10c9'>82576 Gigabit Network Connection</product><vendor id='0x8086'>Intel Corporation</vendor>
        <capability type='virt_functions' maxCount='7'>
        <address domain='0x0000' bus='0x02' slot='0x10' function='0x1'/>
        <address domain='0x0000' bus='0x02' slot='0x10' function='0x7'/></capability></capability></device>
        """

    @Test("A virtual function names its physical one, and the cell that it is near")
    func functions() throws {
        #expect(
            PCIDevice(try XMLNode(parsing: Self.virtual))
                == PCIDevice(
                    address: "0000:02:10.7", vendorID: "8086", productID: "10ca", kind: .virtualFunction,
                    parentAddress: "0000:02:00.1", numaNode: 0))
        #expect(
            PCIDevice(try XMLNode(parsing: Self.physical))
                == PCIDevice(address: "0000:02:00.1", vendorID: "8086", productID: "10c9", kind: .physicalFunction))
    }

    @Test(
        "What is no PCI device, or says too little, is none",
        arguments: [
            "<device/>", "<device><capability type='usb'/></device>", "<device><capability type='pci'/></device>",
            "<device><capability type='pci'><domain>0</domain><bus>2</bus><slot>x</slot><function>1</function>"
                + "<product id='0x1'/><vendor id='0x2'/></capability></device>",
            "<device><capability type='pci'><domain>0</domain><bus>2</bus><slot>1</slot><function>1</function>"
                + "<product id='1'/><vendor id='0x2'/></capability></device>",
        ])
    func none(text: String) throws { #expect(PCIDevice(try XMLNode(parsing: text)) == nil) }
}
