// swift-tools-version: 6.2
import PackageDescription

// The target list is the architecture diagram: a target depends only on what stands above it here.
// `Tests/ArchitectureTests` holds the list against the import lines.

let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

func library(_ name: String, _ dependencies: [Target.Dependency] = [], linking: [LinkerSetting] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swiftSettings, linkerSettings: linking)
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, swiftSettings: swiftSettings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], excluding: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: excluding, swiftSettings: swiftSettings)
}

func systemLibrary(_ name: String, pkgConfig: String? = nil, apt: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt])])
}

let package = Package(
    name: "apus",
    products: [
        .executable(name: "apus", targets: ["apus"]),
        .executable(name: "apus-api", targets: ["apus-api"]),
        .executable(name: "apus-compute", targets: ["apus-compute"]),
        .executable(name: "apus-conductor", targets: ["apus-conductor"]),
        .executable(name: "apus-scheduler", targets: ["apus-scheduler"]),
    ],
    traits: [
        // Every target sees a trait's name as a condition of `#if`. Of `FaultInjection` only `Compute` and `apus-compute`
        // ask, of `PostgreSQL` only the target of that name and `Database`, of `AMQP` that target and `Conductor`.
        .trait(name: "PostgreSQL", description: "A control plane that can keep its records in PostgreSQL, by libpq."),
        .trait(name: "AMQP", description: "A conductor that can send notifications to a broker, by librabbitmq."),
        .trait(name: "FaultInjection", description: "An agent that dies or fails where a test says. Never for use.")
    ],
    targets: [
        // C libraries, each wrapped by exactly one Swift target.
        .target(
            name: "CLibvirt", path: "CLibvirt",
            cSettings: [.treatAllWarnings(as: .error)],
            linkerSettings: [.linkedLibrary("virt")]),
        systemLibrary("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
        systemLibrary("CPostgreSQL", pkgConfig: "libpq", apt: "libpq-dev"),
        systemLibrary("CRabbitMQ", pkgConfig: "librabbitmq", apt: "librabbitmq-dev"),
        systemLibrary("CMicroHTTPD", pkgConfig: "libmicrohttpd", apt: "libmicrohttpd-dev"),
        systemLibrary("CCurl", apt: "libcurl4-gnutls-dev"),
        systemLibrary("CXML2", pkgConfig: "libxml-2.0", apt: "libxml2-dev"),
        systemLibrary("CGnuTLS", pkgConfig: "gnutls", apt: "libgnutls28-dev"),
        systemLibrary("CCrypt", apt: "libcrypt-dev"),
        systemLibrary("CSystem", apt: "libc6-dev"),

        // Values and foundations.
        library("Model"),
        library("GuestHardware", ["Model"]),
        library("HostTopology", ["Model", "GuestHardware"]),
        library("PCIDevices", ["Model"]),
        library("ImageFormat", ["Model"]),
        library("SQL", ["Model"]),
        library("Telemetry", ["CSystem", "Model"]),
        library("Configuration", ["CSystem", "Model", "Telemetry"]),
        library("Crypto", ["CGnuTLS", "CCrypt", "CSystem", "Model"]),
        library("Periodic", ["Model", "Telemetry"]),
        library("Metadata", ["Model", "Crypto"]),
        library("XML", ["CXML2"]),
        library("Processes", ["CSystem", "Telemetry"]),
        library(
            "HTTP", ["CMicroHTTPD", "CCurl", "CSystem", "Model", "Telemetry", "Crypto"],
            linking: [.linkedLibrary(":libcurl-gnutls.so.4")]),
        library("RPC", ["Model", "Telemetry", "Configuration", "Crypto", "HTTP"]),
        library("SQLite", ["CSQLite", "CSystem", "Model", "SQL", "Telemetry"]),
        library(
            "PostgreSQL",
            [.target(name: "CPostgreSQL", condition: .when(traits: ["PostgreSQL"])), "CSystem", "Model", "SQL", "Telemetry"]),
        library("AMQP", [.target(name: "CRabbitMQ", condition: .when(traits: ["AMQP"])), "Model"]),
        library("Tasks", ["Model", "Telemetry"]),
        library("TaskStore", ["Model", "SQL", "Telemetry", "RPC", "Tasks"]),
        library("Libvirt", ["CLibvirt", "Telemetry", "XML"]),
        library("Scheduling", ["Model", "GuestHardware", "HostTopology"]),

        // Services.
        library("Identity", ["Model", "Telemetry", "Configuration", "Crypto", "HTTP"]),
        library("Images", ["Model", "GuestHardware", "ImageFormat", "Telemetry", "Configuration", "Crypto", "HTTP"]),
        library(
            "Compute",
            [
                "CSystem", "Model", "GuestHardware", "HostTopology", "PCIDevices", "ImageFormat", "Metadata", "Telemetry", "Configuration",
                "Periodic", "Crypto", "HTTP", "RPC",
                "SQL", "SQLite", "Tasks", "TaskStore",
            ]),
        library(
            "LibvirtDriver",
            [
                "CSystem", "Model", "GuestHardware", "HostTopology", "ImageFormat", "Metadata", "Telemetry", "Configuration", "Crypto", "XML",
                "Processes", "HTTP",
                "Libvirt", "Compute",
            ]),
        library(
            "Database",
            [
                "Model", "SQL", "Telemetry", "Configuration", "Crypto", "HTTP", "RPC", "SQLite", "PostgreSQL", "Tasks", "TaskStore",
                "Scheduling", "Identity", "Images",
            ]),
        library(
            "SchedulerService",
            ["Model", "Telemetry", "Configuration", "HTTP", "RPC", "Scheduling", "Database"]),
        library(
            "Conductor",
            [
                "CSystem", "Model", "Telemetry", "Configuration", "Periodic", "Crypto", "HTTP", "RPC", "AMQP", "Tasks",
                "Scheduling", "Images", "Database",
            ]),
        library("Placement", ["Model", "Telemetry", "HTTP", "Database"]),
        library(
            "ComputeAPI",
            [
                "Model", "GuestHardware", "PCIDevices", "Metadata", "Telemetry", "Configuration", "Crypto", "HTTP", "RPC", "Tasks", "Scheduling", "Identity",
                "Images", "Database", "Placement",
            ]),
        library("Simulation", ["CSystem", "Model", "Telemetry", "Scheduling", "HTTP", "RPC"]),
        library(
            "CommandLine",
            [
                "CSystem", "Model", "SQL", "Telemetry", "Configuration", "Crypto", "Processes", "HTTP", "RPC", "Tasks",
                "Libvirt", "Scheduling", "Identity", "Images", "Compute", "LibvirtDriver", "Database", "SchedulerService",
                "Conductor", "ComputeAPI", "Simulation",
            ]),

        // Programs: parse, wire, run.
        program("apus", ["CommandLine"]),
        program("apus-api", ["Model", "Telemetry", "Configuration", "HTTP", "RPC", "Identity", "Images", "Database", "ComputeAPI"]),
        program("apus-bench", ["Model", "Crypto", "HTTP", "RPC", "Tasks", "Scheduling", "Database", "Compute"]),
        program("apus-compute", ["Model", "Telemetry", "Configuration", "HTTP", "RPC", "Compute", "LibvirtDriver"]),
        program("apus-conductor", ["Model", "Telemetry", "Configuration", "HTTP", "RPC", "Database", "Conductor"]),
        program("apus-scheduler", ["Model", "Telemetry", "Configuration", "HTTP", "RPC", "Database", "SchedulerService"]),

        // Tests.
        .target(name: "PostgreSQLServer", path: "Tests/PostgreSQLServer", swiftSettings: swiftSettings),
        tests("ArchitectureTests", []),
        tests("ModelTests", ["Model"]),
        tests("PeriodicTests", ["Periodic", "Model", "Telemetry"]),
        tests("MetadataTests", ["Metadata", "Model", "Crypto"]),
        tests("GuestHardwareTests", ["GuestHardware", "Model"]),
        tests("HostTopologyTests", ["HostTopology", "GuestHardware", "Model"]),
        tests("PCIDevicesTests", ["PCIDevices", "Model"]),
        tests("ImageFormatTests", ["ImageFormat", "Model"]),
        tests("TelemetryTests", ["Telemetry", "Model"]),
        tests("ConfigurationTests", ["Configuration", "Model"]),
        tests("CryptoTests", ["Crypto", "Model"]),
        tests("XMLTests", ["XML"]),
        tests("ProcessesTests", ["Processes"]),
        tests("HTTPTests", ["HTTP", "Crypto", "Model"]),
        tests("RPCTests", ["RPC", "HTTP", "Crypto", "Model", "Telemetry"], excluding: ["Fixtures"]),
        tests("SQLiteTests", ["SQLite", "SQL", "Model", "Telemetry"]),
        tests("AMQPTests", ["AMQP"]),
        tests("PostgreSQLTests", ["PostgreSQL", "PostgreSQLServer", "Model", "SQL"]),
        tests("TasksTests", ["Tasks", "Model", "Telemetry"]),
        tests("TaskStoreTests", ["TaskStore", "Model", "RPC", "SQL", "SQLite", "PostgreSQL", "PostgreSQLServer", "Tasks"]),
        tests("LibvirtTests", ["Libvirt", "XML"]),
        tests("SchedulingTests", ["Scheduling", "HostTopology", "PCIDevices", "Model"]),
        tests("IdentityTests", ["Identity", "Crypto", "HTTP", "Model", "Configuration"]),
        tests("ImagesTests", ["Images", "ImageFormat", "Crypto", "HTTP", "Model", "Configuration", "Telemetry"]),
        tests(
            "ComputeTests",
            [
                "Compute", "Periodic", "GuestHardware", "HostTopology", "PCIDevices", "RPC", "HTTP", "SQL", "SQLite", "Tasks", "TaskStore", "Model", "Telemetry", "Configuration", "Crypto",
            ]),
        tests(
            "LibvirtDriverTests",
            [
                "LibvirtDriver", "GuestHardware", "HostTopology", "Metadata", "Compute", "Libvirt", "XML", "Model", "Configuration", "Processes",
            ],
            excluding: ["Golden", "Capabilities"]),
        tests("DatabaseTests", ["Database", "PostgreSQLServer", "SQL", "SQLite", "Tasks", "RPC", "Identity", "Images", "Model", "Configuration"]),
        tests("SchedulerServiceTests", ["SchedulerService", "Database", "Scheduling", "Crypto", "HTTP", "Model", "Configuration"]),
        tests("ConductorTests", ["ComputeAPI", "PostgreSQLServer", "Crypto", "Periodic", "SchedulerService", "Telemetry", "Conductor", "Database", "RPC", "HTTP", "Images", "Tasks", "Scheduling", "Model", "Configuration"]),
        tests(
            "ComputeAPITests",
            ["ComputeAPI", "Database", "Identity", "Images", "HTTP", "RPC", "SQL", "SQLite", "Tasks", "Scheduling", "Model", "Configuration", "Crypto", "Telemetry"]),
        tests("PlacementTests", ["Placement", "Database", "HTTP", "Model"]),
        tests("SimulationTests", ["Simulation", "HTTP", "RPC", "Model", "Telemetry"]),
        tests("CommandLineTests", ["CommandLine", "Configuration", "Scheduling", "HTTP", "Database", "Model", "Simulation"]),
        tests(
            "SystemTests",
            [
                "HTTP", "Processes", "Libvirt", "XML", "Model", "GuestHardware", "HostTopology", "Crypto", "Configuration", "Compute",
                "LibvirtDriver",
            ]),
    ]
)
