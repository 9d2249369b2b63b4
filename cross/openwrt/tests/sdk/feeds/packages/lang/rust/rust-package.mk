# The names that packages of the feed use. The settings of the profile `release` are the feed's own, as there.

RUST_ARCH_DEPENDS:=@(aarch64||arm||mips||mipsel||x86_64)
RUSTC_TARGET_ARCH?=$(ARCH)-unknown-linux-musl
RUSTC_CFLAGS:=-fstub
CARGO_PKG_PROFILE:=release
CARGO_PKG_VARS= \
	CARGO_BUILD_TARGET=$(RUSTC_TARGET_ARCH) \
	CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true \
	CARGO_PROFILE_RELEASE_PANIC=unwind \
	TARGET_CC=$(TARGET_CC_NOCACHE) \
	TARGET_CFLAGS="$(TARGET_CFLAGS) $(RUSTC_CFLAGS)" \
	CC=$(HOSTCC_NOCACHE)

# Build/Compile/Cargo [folder] [arguments]
define Build/Compile/Cargo
	+$(CARGO_PKG_VARS) \
	cargo install -v \
		--profile $(CARGO_PKG_PROFILE) \
		--root $(PKG_INSTALL_DIR) \
		--path "$(PKG_BUILD_DIR)/$(if $(strip $(1)),$(strip $(1)),$(MAKE_PATH))" \
		--locked \
		$(2)
endef
