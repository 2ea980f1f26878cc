public import Configuration
internal import Model
internal import PCIDevices

/// The options of the API service.
public enum APIOptions {
    public static let listen = Option(
        "api", "listen", default: "127.0.0.1:8774",
        help: "Address and port of the public API; port 0 takes any free one.")

    public static let advertisedURL = Option(
        "api", "advertised_url", default: "",
        help: "URL under which clients reach the API, for its certificate; empty: made from `listen`.")

    public static let conductorURLs = Option(
        "api", "conductor_urls", default: ["http://127.0.0.1:8781"],
        help: "URLs of the conductors, which share the calls.")

    public static let maxLimit = Option(
        "api", "max_limit", default: 1_000,
        help: "How many servers one page of a list holds at most.",
        check: { (1...1_000).contains($0) ? nil : "1 to 1000" })

    public static let isInstancePasswordEnabled = Option(
        "api", "enable_instance_password", default: true,
        help: "Whether the answer to a server's creation carries the administrator's password.")

    public static let availabilityZone = Option(
        "DEFAULT", "default_availability_zone", default: "nova",
        help: "The zone of hosts that are in no aggregate with a zone.")

    public static let pciAlias = Option(
        "pci", "alias", default: "",
        help: "The names by which flavors ask for PCI devices, as on the hosts. Empty: the hosts alone decide.",
        check: { text in
            do throws(PCIError) {
                _ = try PCIAlias.list(parsing: text)
                return nil
            } catch {
                return error.description
            }
        })
    public static let metadataSecret = Option(
        "neutron", "metadata_proxy_shared_secret", default: "",
        help: "What a metadata proxy signs its requests with. Empty: this service answers no such requests.",
        isSecret: true)
    public static let allowResizeToSameHost = Option(
        "DEFAULT", "allow_resize_to_same_host", default: false,
        help: "Whether the host that a server is on comes into question for its new size, too.")

    public static let guestDomain = CommonOptions.dhcpDomain

    /// What images made of servers are.
    public enum SnapshotFormat: String, Sendable, CaseIterable, ChoiceOption {
        case qcow2, raw
    }

    public static let snapshotFormat = Option<SnapshotFormat>(
        "libvirt", "snapshot_image_format", default: .qcow2,
        help: "What images made of servers are: qcow2, which is sparse, or raw.")

    public static let rescueImageID = Option(
        "libvirt", "rescue_image_id", default: "",
        help: "The image that servers are rescued with when the request names none. Empty: the server's own image.",
        check: { $0.isEmpty || isUUID($0) ? nil : "an image's id, or nothing" })

    public static let nonInheritableProperties = Option(
        "DEFAULT", "non_inheritable_image_properties", default: ["cache_in_nova", "bittorrent"],
        help: "Properties of a server's image that an image made of the server does not get.")

    public static let maxLocalBlockDevices = Option(
        "DEFAULT", "max_local_block_devices", default: 3,
        help: "How many disks on the host one server's creation may ask for, its root disk among them; -1 for any "
            + "number.",
        // In Nova 0 leaves servers on volumes; here it would leave none.
        check: { $0 == -1 || $0 > 0 ? nil : "1 or more, or -1" })

    public static let instances = Option(
        "quota", "instances", default: 10, help: "How many servers a project may have; -1 for no limit.",
        check: quota)

    public static let cores = Option(
        "quota", "cores", default: 20, help: "How many VCPUs a project's servers may have together; -1 for no limit.",
        check: quota)

    public static let ram = Option(
        "quota", "ram", default: 51_200,
        help: "How many MiB of memory a project's servers may have together; -1 for no limit.", check: quota)

    public static let metadataItems = Option(
        "quota", "metadata_items", default: 128, help: "How many metadata items a server may have; -1 for no limit.",
        check: quota)

    public static let injectedFiles = Option(
        "quota", "injected_files", default: 5,
        help: "How many files may be injected into a server; -1 for no limit.", check: quota)

    public static let injectedFileContentBytes = Option(
        "quota", "injected_file_content_bytes", default: 10_240,
        help: "How many bytes an injected file may have; -1 for no limit but 49151, which no file exceeds.",
        check: quota)

    public static let injectedFilePathLength = Option(
        "quota", "injected_file_path_length", default: 255,
        help: "How many bytes an injected file's path may have; -1 for no limit but 1024, which no path exceeds.",
        check: quota)

    public static let keyPairs = Option(
        "quota", "key_pairs", default: 100, help: "How many key pairs a user may have; -1 for no limit.", check: quota)

    public static let serverGroups = Option(
        "quota", "server_groups", default: 10,
        help: "How many server groups a project may have; -1 for no limit. Shown; server groups are not served yet.",
        check: quota)

    public static let serverGroupMembers = Option(
        "quota", "server_group_members", default: 10,
        help: "How many servers of a user a group may have; -1 for no limit. Shown; server groups are not served yet.",
        check: quota)

    public static let isQuotaRechecked = Option(
        "quota", "recheck_quota", default: true,
        help: "Whether what a project has is counted again in the transaction that adds servers. "
            + "Without it requests at the same time may pass the quota together.")

    public static let all: [AnyOption] = [
        listen.erased, advertisedURL.erased, conductorURLs.erased, maxLimit.erased, isInstancePasswordEnabled.erased,
        availabilityZone.erased, snapshotFormat.erased, nonInheritableProperties.erased, rescueImageID.erased,
        instances.erased, cores.erased, ram.erased, metadataItems.erased, injectedFiles.erased,
        injectedFileContentBytes.erased, injectedFilePathLength.erased, keyPairs.erased, serverGroups.erased,
        serverGroupMembers.erased, isQuotaRechecked.erased, maxLocalBlockDevices.erased, metadataSecret.erased,
        pciAlias.erased,
        guestDomain.erased, allowResizeToSameHost.erased,
    ]

    @Sendable private static func quota(_ value: Int) -> String? { value >= -1 ? nil : "-1 or more" }
}
