import Model
import Testing
import XML

@testable import LibvirtDriver

/// A machine with a Tesla P100 of which two shares exist: `virsh nodedev-dumpxml pci_0000_3b_00_0` as a README on GitHub
/// shows it, with fewer types. The shares' descriptions follow its `virsh nodedev-list --cap mdev` and `nodedev-define`;
/// others are `mdev_d069d019_36ea_4111_8f0a_8c9a70e21366.xml`, `mdev_3627463d_b7f0_4fea_b468_f1da537d301b.xml` and
/// `pci_0000_02_10_7_mdev_types.xml` in tests/nodedevschemadata of github.com/libvirt/libvirt, and the example of IBM's
/// page "<device> as a root element" in "Linux on IBM systems".
@Suite("Mediated devices as libvirt describes them")
struct MediatedDeviceTests {
    private static let tesla = """
        <device>
          <name>pci_0000_3b_00_0</name>
          <path>/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0</path>
          <parent>pci_0000_3a_00_0</parent>
          <driver>
            <name>nvidia</name>
          </driver>
          <capability type='pci'>
            <class>0x030200</class>
            <domain>0</domain>
            <bus>59</bus>
            <slot>0</slot>
            <function>0</function>
            <product id='0x15f8'>GP100GL [Tesla P100 PCIe 16GB]</product>
            <vendor id='0x10de'>NVIDIA Corporation</vendor>
            <capability type='mdev_types'>
              <type id='nvidia-86'>
                <name>GRID P100-8Q</name>
                <deviceAPI>vfio-pci</deviceAPI>
                <availableInstances>0</availableInstances>
              </type>
              <type id='nvidia-294'>
                <name>GRID P100-8C</name>
                <deviceAPI>vfio-pci</deviceAPI>
                <availableInstances>0</availableInstances>
              </type>
            </capability>
            <iommuGroup number='35'>
              <address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/>
              <address domain='0x0000' bus='0x3a' slot='0x00' function='0x0'/>
            </iommuGroup>
            <numa node='0'/>
            <pci-express>
              <link validity='cap' port='0' speed='8' width='16'/>
              <link validity='sta' speed='8' width='16'/>
            </pci-express>
          </capability>
        </device>
        """
    private static let shares = [
        "e55bf865-6983-4d53-967f-51e8a3bb0f57", "3131f5fd-7c04-4a61-92c1-0c37f9547b6b",
    ].map { uuid in
        """
        <device>
          <name>mdev_\(uuid.split(separator: "-").joined(separator: "_"))_0000_3b_00_0</name>
          <path>/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/\(uuid)</path>
          <parent>pci_0000_3b_00_0</parent>
          <driver>
            <name>nvidia-vgpu-vfio</name>
          </driver>
          <capability type='mdev'>
            <type id='nvidia-294'/>
            <uuid>\(uuid)</uuid>
            <parent_addr>0000:3b:00.0</parent_addr>
            <iommuGroup number='121'/>
          </capability>
        </device>
        """
    }

    private func existing(_ text: String) throws -> ExistingMediatedDevice? {
        ExistingMediatedDevice(try XMLNode(parsing: text))
    }

    @Test("A device that can be shared has its types and its shares")
    func parent() throws {
        let shares = try Self.shares.compactMap { try existing($0)?.device }
        let stranger = MediatedDevice(parentAddress: "0000:3c:00.0", type: "nvidia-294", uuid: "x")
        #expect(
            MediatedDeviceParent(try XMLNode(parsing: Self.tesla), existing: shares + [stranger])
                == MediatedDeviceParent(
                    address: "0000:3b:00.0", numaNode: 0,
                    types: [
                        .init(id: "nvidia-86", deviceAPI: "vfio-pci", availableInstances: 0),
                        .init(id: "nvidia-294", deviceAPI: "vfio-pci", availableInstances: 0),
                    ],
                    devices: [
                        MediatedDevice(
                            parentAddress: "0000:3b:00.0", type: "nvidia-294",
                            uuid: "e55bf865-6983-4d53-967f-51e8a3bb0f57"),
                        MediatedDevice(
                            parentAddress: "0000:3b:00.0", type: "nvidia-294",
                            uuid: "3131f5fd-7c04-4a61-92c1-0c37f9547b6b"),
                    ]))
        #expect(PCIDevice(try XMLNode(parsing: Self.tesla))?.productID == "15f8")
    }

    @Test("A virtual function can be shared, too; without a cell it is near none")
    func function() throws {
        let text = """
            <device><name>pci_0000_02_10_7</name><parent>pci_0000_00_04_0</parent><capability type='pci'>
            <domain>0</domain><bus>2</bus><slot>16</slot><function>7</function>
            <product id='0x10ca'>82576 Virtual Function</product><vendor id='0x8086'>Intel Corporation</vendor>
            <capability type='mdev_types'>
            <type id='foo1'><name>bar1</name><deviceAPI>vfio-pci</deviceAPI>
            <availableInstances>1</availableInstances></type>
            <type id='foo2'><name>bar2</name><deviceAPI>vfio-pci</deviceAPI>
            <availableInstances>2</availableInstances></type>
            </capability></capability></device>
            """
        let parent = try #require(MediatedDeviceParent(try XMLNode(parsing: text), existing: []))
        #expect(parent.address == "0000:02:10.7" && parent.numaNode == nil && parent.devices.isEmpty)
        #expect(parent.types.map(\.availableInstances) == [1, 2])
    }

    @Test("A share has libvirt's name, its physical device, its type and its uuid")
    func share() throws {
        let tesla = try existing(Self.shares[0])
        #expect(tesla?.name == "mdev_e55bf865_6983_4d53_967f_51e8a3bb0f57_0000_3b_00_0")
        #expect(tesla?.device.parentAddress == "0000:3b:00.0")
        let intel = try existing(
            """
            <device><name>mdev_d069d019_36ea_4111_8f0a_8c9a70e21366</name><parent>pci_0000_00_02_0</parent>
            <capability type='mdev'><type id='i915-GVTg_V5_8'/>
            <uuid>d069d019-36ea-4111-8f0a-8c9a70e21366</uuid></capability></device>
            """)
        let expected = MediatedDevice(
            parentAddress: "0000:00:02.0", type: "i915-GVTg_V5_8", uuid: "d069d019-36ea-4111-8f0a-8c9a70e21366")
        #expect(intel?.device == expected)
        // As libvirt described them before 7.3.
        let older = try existing(
            """
            <device><name>mdev_d069d019_36ea_4111_8f0a_8c9a70e21366</name><parent>pci_0000_00_02_0</parent>
            <capability type='mdev'><type id='i915-GVTg_V5_8'/><iommuGroup number='12'/></capability></device>
            """)
        #expect(older?.device == expected)
    }

    @Test(
        "What is no share of a PCI device, or says too little, is none",
        arguments: [
            "<device/>", "<device><name>mdev_x</name><capability type='mdev'><type id='a'/></capability></device>",
            """
            <device><name>mdev_3627463d_b7f0_4fea_b468_f1da537d301b</name><parent>computer</parent>
            <capability type='mdev'><type id='mtty-1'/><iommuGroup number='12'/></capability></device>
            """,
            """
            <device><name>mdev_96c03c6a_a109_44fe_816a_ba371542164b_0_0_0072</name>
            <path>/sys/devices/css0/0.0.0072/96c03c6a-a109-44fe-816a-ba371542164b</path><parent>css_0_0_0072</parent>
            <driver><name>vfio_mdev</name></driver><capability type="mdev"><type id="vfio_ccw-io"/>
            <uuid>96c03c6a-a109-44fe-816a-ba371542164b</uuid><iommuGroup number="1"/></capability></device>
            """,
            """
            <device><name>mdev_d069d019</name><parent>pci_0000_00_02_0</parent><capability type='mdev'>
            <type id='a'/></capability></device>
            """,
            """
            <device><name>mdev_d069d019</name><parent>pci_0000_00_02_0</parent><capability type='mdev'>
            <type id='a'/><uuid>d069d019-36ea-4111-8f0a-8c9a70e2136/</uuid></capability></device>
            """,
        ])
    func none(text: String) throws {
        #expect(try existing(text) == nil)
        #expect(MediatedDeviceParent(try XMLNode(parsing: text), existing: []) == nil)
    }

    @Test(
        "A device without types, or with none that can be read, cannot be shared",
        arguments: [
            "", "<capability type='mdev_types'/>",
            "<capability type='mdev_types'><type id='a'><deviceAPI>vfio-pci</deviceAPI></type></capability>",
            """
            <capability type='mdev_types'><type id='a'><deviceAPI>vfio-pci</deviceAPI>
            <availableInstances>-1</availableInstances></type></capability>
            """,
        ])
    func noTypes(capability: String) throws {
        let text = """
            <device><capability type='pci'><domain>0</domain><bus>2</bus><slot>16</slot><function>7</function>
            \(capability)</capability></device>
            """
        #expect(MediatedDeviceParent(try XMLNode(parsing: text), existing: []) == nil)
    }

    @Test("libvirt is told the physical device, the type and the uuid")
    func document() throws {
        let device = MediatedDevice(
            parentAddress: "0000:3b:00.0", type: "nvidia-294", uuid: "e55bf865-6983-4d53-967f-51e8a3bb0f57")
        let expected = """
            <device><parent>pci_0000_3b_00_0</parent><capability type="mdev"><type id="nvidia-294"/>
            <uuid>e55bf865-6983-4d53-967f-51e8a3bb0f57</uuid></capability></device>
            """
        #expect(device.document == (try XMLNode(parsing: expected)))
        let hostile = MediatedDevice(parentAddress: "0000:3b:00.0", type: "a'/><b c=\"", uuid: "<d>")
        #expect(try XMLNode(parsing: try hostile.document.serialized()) == hostile.document)
    }
}
