# One variant, BUILD_VARIANT, from the tree to what is in the package.

PKG_BUILD_DIR?=$(OUT)/build/$(PKG_NAME)-$(BUILD_VARIANT)/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR?=$(PKG_BUILD_DIR)/ipkg-install
MAKE_PATH:=.

.PHONY: all
all:

define Build/Prepare
	mkdir -p $(PKG_BUILD_DIR)
	tar -xzf $(OUT)/dl/$(PKG_SOURCE) -C $(PKG_BUILD_DIR) --strip-components=1
endef

# BuildPackage <package>: fields are told of every package, recipes are those of the wanted variant.
define BuildPackage
  DEPENDS:=
  CONFLICTS:=
  PROVIDES:=
  DEFAULT_VARIANT:=
  $(eval $(Package/$(1)))
  $(foreach field,SECTION CATEGORY TITLE,$(if $($(field)),,$(error Package/$(1) is missing the $(field) field)))
  $(info $(1): $(TITLE))
  $(info $(1): depends $(DEPENDS))
  $(info $(1): conflicts $(CONFLICTS))
  $(info $(1): provides $(PROVIDES))
  $(info $(1): conffiles $(Package/$(1)/conffiles))
  $(if $(filter $(BUILD_VARIANT),$(VARIANT)),$(call Stub/Built,$(1)))
endef

define Stub/Built
  all: $(1)
  $(1):
	$(Build/Prepare)
	$(Build/Compile)
	mkdir -p $(OUT)/$(1)
	$(call Package/$(1)/install,$(OUT)/$(1))
endef
