/// What each microversion changed, and whether Apus answers so. The maximum follows from the table.
struct MicroversionChange: Sendable {
    enum State: Sendable, Equatable {
        /// Every route served answers as the version says.
        case implemented
        /// The change concerns only routes that are not served; they are named.
        case notServed(String)
        /// Missing on a route that is served: the maximum ends below.
        case missing(String)
    }

    let minor: Int
    let summary: String
    let state: State

    init(_ minor: Int, _ summary: String, _ state: State = .implemented) {
        (self.minor, self.summary, self.state) = (minor, summary, state)
    }
}

enum MicroversionHistory {
    /// The highest N such that every change up to N is implemented on every route served.
    static let maximum: Microversion = {
        var last = Microversion.minimum
        for change in changes {
            if case .missing = change.state { break }
            last = Microversion(change.minor)
        }
        return last
    }()

    /// Every minor from 2 on, without a gap, up to the first one that is missing.
    static let changes: [MicroversionChange] = [
        MicroversionChange(2, "key pairs have a type; POST answers 201, DELETE 204"),
        MicroversionChange(3, "administrators see more of a server"),
        MicroversionChange(4, "reserved fixed addresses", .notServed("os-fixed-ips")),
        MicroversionChange(5, "anybody may filter servers by ip6"),
        MicroversionChange(6, "remote consoles"),
        MicroversionChange(7, "no access lists for public flavors"),
        MicroversionChange(8, "console protocol mks"),
        MicroversionChange(9, "servers show locked"),
        MicroversionChange(10, "administrators name the user of a key pair"),
        MicroversionChange(11, "services show and take forced_down"),
        MicroversionChange(12, "security groups of virtual interfaces", .notServed("os-virtual-interfaces")),
        MicroversionChange(13, "server groups show project and user"),
        MicroversionChange(14, "evacuate without shared storage"),
        MicroversionChange(15, "server groups with soft policies"),
        MicroversionChange(16, "administrators see host_status"),
        MicroversionChange(17, "crash dumps"),
        MicroversionChange(18, "paths without a project"),
        MicroversionChange(19, "servers have a description"),
        MicroversionChange(20, "volumes of shelved servers", .notServed("os-volume_attachments")),
        MicroversionChange(21, "actions of deleted servers"),
        MicroversionChange(22, "forced end of a live migration"),
        MicroversionChange(23, "migrations of a server"),
        MicroversionChange(24, "abort of a live migration"),
        MicroversionChange(25, "block_migration auto"),
        MicroversionChange(26, "servers have tags, and lists filter by them"),
        MicroversionChange(27, "OpenStack-API-Version beside Nova's own header"),
        MicroversionChange(28, "cpu_info of hypervisors is an object"),
        MicroversionChange(29, "evacuate checks a forced host"),
        MicroversionChange(30, "live migration checks a forced host"),
        MicroversionChange(31, "console tokens of every type", .notServed("os-console-auth-tokens")),
        MicroversionChange(32, "device tags at creation", .notServed("networks and volumes by id")),
        MicroversionChange(33, "hypervisors come in pages"),
        MicroversionChange(34, "checks of live migration come later"),
        MicroversionChange(35, "key pairs come in pages"),
        MicroversionChange(36, "limits and quotas lose the network's; the proxies end"),
        MicroversionChange(37, "networks must be named: auto, none, or a list"),
        MicroversionChange(38, "an unknown status is 400"),
        MicroversionChange(39, "limits lose maxImageMeta"),
        MicroversionChange(40, "usage comes in pages", .notServed("os-simple-tenant-usage")),
        MicroversionChange(41, "aggregates have a uuid"),
        MicroversionChange(42, "device tags at creation again", .notServed("networks and volumes by id")),
        MicroversionChange(43, "os-hosts ends", .notServed("os-hosts")),
        MicroversionChange(44, "address actions end", .notServed("addFixedIp and the like")),
        MicroversionChange(45, "snapshots answer with the image's id"),
        MicroversionChange(46, "X-OpenStack-Request-ID in every answer"),
        MicroversionChange(47, "servers embed their flavor"),
        MicroversionChange(48, "diagnostics have a fixed form"),
        MicroversionChange(49, "tags of attached interfaces"),
        MicroversionChange(50, "quota classes lose the network's and have the server groups'"),
        MicroversionChange(51, "everybody sees the events of actions"),
        MicroversionChange(52, "tags at creation"),
        MicroversionChange(53, "services and hypervisors are named by uuid"),
        MicroversionChange(54, "rebuild takes a key"),
        MicroversionChange(55, "flavors have a description"),
        MicroversionChange(56, "cold migration to a host"),
        MicroversionChange(57, "no personality; limits and quotas lose it"),
        MicroversionChange(58, "actions come in pages and show updated_at"),
        MicroversionChange(59, "migrations come in pages"),
        MicroversionChange(60, "volumes on several servers", .notServed("os-volume_attachments")),
        MicroversionChange(61, "flavors show their extra specs"),
        MicroversionChange(62, "events of actions show the host"),
        MicroversionChange(63, "trusted image certificates", .notServed("images with signatures")),
        MicroversionChange(64, "server groups have one policy, with rules"),
        MicroversionChange(65, "a queued live migration is aborted"),
        MicroversionChange(66, "lists filter by changes-before"),
        MicroversionChange(67, "volumes made at creation have a type", .notServed("volumes")),
        MicroversionChange(68, "moves are not forced any more"),
        MicroversionChange(69, "servers of cells that are down are shown in part"),
        MicroversionChange(70, "interfaces show their tag"),
        MicroversionChange(71, "a server shows its groups"),
        MicroversionChange(72, "ports with demands of bandwidth", .notServed("networks by id")),
        MicroversionChange(73, "locks have a reason, and lists filter by locked"),
        MicroversionChange(74, "administrators ask for a host that the filters must admit"),
        MicroversionChange(75, "unknown query parameters are 400; changed servers are shown in full; no swap is 0"),
        MicroversionChange(76, "power changes told from outside", .notServed("os-server-external-events")),
        MicroversionChange(77, "unshelving into a zone"),
        MicroversionChange(78, "a server shows its topology"),
        MicroversionChange(79, "volumes go with their server", .notServed("os-volume_attachments")),
        MicroversionChange(80, "migrations show user and project"),
        MicroversionChange(81, "images are cached on an aggregate's hosts"),
        MicroversionChange(82, "accelerators bound told from outside", .notServed("os-server-external-events")),
        MicroversionChange(83, "everybody may use more filters of servers"),
        MicroversionChange(84, "events show details"),
        MicroversionChange(85, "attached volumes are changed", .notServed("os-volume_attachments")),
        MicroversionChange(86, "extra specs of known namespaces are checked"),
        MicroversionChange(87, "rescue of servers with a volume for their disk", .notServed("volumes")),
        MicroversionChange(88, "hypervisors show uptime; statistics end"),
        MicroversionChange(89, "attached volumes show more ids", .notServed("os-volume_attachments")),
        MicroversionChange(90, "servers are given a host name"),
        MicroversionChange(91, "unshelving to a host"),
        MicroversionChange(92, "key pairs are imported only; more characters in their names"),
        MicroversionChange(93, "rebuild of servers with a volume for their disk", .notServed("volumes")),
        MicroversionChange(94, "host names with a domain"),
        MicroversionChange(95, "evacuated servers stay stopped"),
        MicroversionChange(96, "servers show the zone that they are kept in"),
        MicroversionChange(97, "shared folders", .notServed("shares")),
        MicroversionChange(98, "servers show the properties of their image"),
        MicroversionChange(99, "consoles of type spice-direct"),
        MicroversionChange(100, "servers show their scheduler hints"),
        MicroversionChange(
            101, "volumes are attached without waiting", .missing("what follows has not been looked at")),
    ]
}
